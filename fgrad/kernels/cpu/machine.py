"""What the loop that runs a flat program reads; `loops` is its code, which a process on a warm cache does not load.

    head: `HEAD`, words that hold addresses and counts
    instructions: (kernel address, address of its arguments, extent, grain) each
    patches: (word of the arguments, 0 = operand / 1 = result, index, byte offset) each: addresses set in every call

An instruction whose kernel address is below `OPCODES` steers the program counter.  ``block`` are its arguments, numbers
of instructions are absolute, and numbers of words count from the start of all arguments:

    BEGIN    block: iteration, steady words, their table, alternating words, their table; iteration = 0
    END      (block, length, first instruction of the body): next iteration, or past the loop if there were ``length``
    TEST     (block: address of a bool; number of the instruction to go on with if it is false)
    SWITCH   block: address of an int32, then the number of an instruction for each of its values
    JUMP     (number of the instruction to go on with)
    HOST     (block: 1, made 0 by success, and the addresses it is given; address of a C function that calls Python)

A steady word is (word, word of its first value, offset, step): it grows by ``step`` in every iteration.  An alternating
word is (word, offset, words of its value in iteration 0, in odd and in even iterations).

The parallel loop hands the tiles of an instruction to Numba's threading layer, whose ``parallel_for(function, arrays,
counts, steps, data, ...)`` calls ``function(arrays, counts, steps, data)`` on its threads, each for some elements of
the arrays that ``counts[0]`` counts.  There is one array, of the workers' numbers; `TEAM` is what the layer reads.
"""

BEGIN, END, TEST, SWITCH, JUMP, HOST = range(6)
OPCODES = 16

STEADY_WORDS = 4
ALTERNATING_WORDS = 5

FOREVER = (1 << 63) - 1  # the length of a loop that a TEST ends

HEAD = ("code", "n_code", "patches", "n_patches", "args", "stopped", "counter", "team", "parallel_for", "tiles")
TEAM = ("numbers", "workers", "step", "kernel", "block", "extent", "run", "counter")

# The C layout that NumPy's and Python's own macros (PyArray_DATA, PyTuple_GET_ITEM) read: the driver takes the address
# of a tuple of arrays, because ndarray.ctypes would cost more than all else in a small call.
TUPLE_ITEMS = tuple.__basicsize__
ARRAY_DATA = object.__basicsize__
