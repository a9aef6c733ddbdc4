"""The words of the ``gemm`` kernels' arguments and records, in order: what `gemm_plan` writes and `gemm` reads.

All offsets and strides are bytes.  Of a product step:

     0 A   1 B   2 out   3 zeros            addresses
     4 records   5 row table   6 tap table   7 B tap table   8 batch table      addresses of int64 tables
     9 groups of panels  10 blocks  11 splits         a task is (batch, split, group, block), block fastest
    12 row tiles in a block  13 row tiles in all
    14 g in all  15 g in a split  16 g in a chunk
    17 A's stride of g  18 B's stride of g  19 A's stride of c  20 B's stride of c
    21 B from panel to panel  22 columns of the result  23 out's stride of a column  24 out from split to split
    25 rows of a tile  26 its columns  27 whether A has a lane for each column (0 or 1)
    28 address of the tile  29 and of the one for a last panel that is not full (`micro`)
    30 most taps of a record (at least 1)  31 taps in a chunk
    32 address of a table with the out offset of each column, -1 where it has none; or 0 (then 23 says it)
    33 whether the tile stores columns as rows, where that table says (0 or 1)
    34 panels of a group, the last of which may have fewer
    35 address of the function to call behind every finished tile (`epilogue`), or 0; then that function's words

The batch table has (A, B, out) offsets for each batch; the row table pairs (A offset, out offset).  Of a record:

     0 its tiles end before this number
     1 A offset  2 out offset  3 rows  4 rows of the row table  5 A's and 6 out's stride each time those are used up
     7 first pair in the row table
     8 first word in the tap table  9 words to the next tap  10 words to the next row of the row table (0 or 1)
    11 first word in the B tap table  12 B offset
    13 taps s  14 length of the run c  15 that of the last g

Of a packing step, which writes B as [batch][panel][g][s][c / fold][width][fold]:

     0 to   1 from   2 batch table (offset each)   3 row table (offset of each s, c)
     4 panels   5 g in all   6 stride of g   7 taps s   8 run c   9 run of the last g
    10 width of a panel in columns   11 columns   12 stride of a column   13 fold
    14 of the run in a task

Of a sum of parts:      0 out   1 parts   2 number of parts   3 elements   4 elements of a task
Of inner products:      0 out   1 A   2 B   3 batch table   4 rows   5 columns   6 length
                        7 A's stride of a row   8 B's of a column   9 out's of a row   10 out's of a column   11 blocks
                        12 rows of a block
"""

RECORD_WORDS = 16

#: Bytes of memory that are fetched at once.
LINE = 64

#: Table entry of a row that reads zeros (no element offset is odd).
ZERO_ROW = -1

#: The words of a tile's arguments.  ``rows``: address of int64[3*MR], row addresses, row indices into the table, and
#: addresses of the output rows, to which ``out`` is added; the run is ``c_full`` long for g < ``g_full`` and ``c_last``
#: after; ``lanes``: columns that are read and written, of a tile with an edge; ``accumulate``: adds to the output in
#: place of overwriting it; of a turned tile: ``places``, address of the offset of each column from the first output
#: row, -1 for none, and ``count``, the rows to write; of one of taps: ``taps``, address of the `TAP_WORDS` of each of
#: ``tap_count``, with the offset of its result in ``tap_outs``; ``ahead``, an address, from which on each run fetches
#: ``ahead_lines``.
TILE_WORDS = (
    "rows", "zero", "tab", "ld", "boff", "b", "g_count", "g_full", "a_gs", "b_gs", "s_count", "c_full", "c_last",
    "a_cs", "b_cs", "out", "lanes", "accumulate", "places", "count", "taps", "tap_count", "tap_outs",
    "ahead", "ahead_lines",
)  # fmt: skip
(ROWS, ZERO, TAB, LD, BOFF, B, G_COUNT, G_FULL, A_GS, B_GS, S_COUNT, C_FULL, C_LAST, A_CS, B_CS, OUT, LANES,
 ACCUMULATE, PLACES, COUNT, TAPS, TAP_COUNT, TAP_OUTS, AHEAD, AHEAD_LINES) = range(len(TILE_WORDS))  # fmt: skip
WORD_BYTES = 8 * len(TILE_WORDS)

#: Words of a tap: its first pair in the tables ``tab`` and ``boff``, number of pairs, where from A's first row and from
#: B on the runs begin, in bytes, and their length.
TAP_WORDS = 5
