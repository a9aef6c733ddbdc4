"""Library kernels of convolution beyond the matrix product: the padded, channels-last copy of an input.

``conv_pad_{itemsize}``, words of ``args`` (strides and offsets in bytes):

    0 to   1 from   2 table: for each line of an image the offset of its first element, or -1 for a line of zeros
    3 lines of an image   4 stride of an image   5 line length   6 its first and 7 its number of elements that exist
    8 stride along the line   9 features   10 stride of a feature   11 planes of an image   12 stride of a plane

A task is one line of one plane of one image, [line length][features] in the copy; a line's planes follow each other.
"""

from __future__ import annotations

import numpy as np

from fgrad.kernels.cpu.memory import copy_bytes, fill_zero, ld, ld_i64, st


def build(name: str):
    """The kernel ``name`` as a Python function for `native.kernel_text`."""
    return _pad(np.dtype(f"i{name.removeprefix('conv_pad_')}").type(0))


def _pad(proto):
    itemsize = proto.itemsize

    def kernel(args, begin, end, worker):
        to, source, table, lines = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3)
        image_stride, length, first, count = ld_i64(args, 4), ld_i64(args, 5), ld_i64(args, 6), ld_i64(args, 7)
        stride, features, feature_stride = ld_i64(args, 8), ld_i64(args, 9), ld_i64(args, 10)
        planes, plane_stride = ld_i64(args, 11), ld_i64(args, 12)
        pixel = features * itemsize
        for task in range(begin, end):
            row = task // planes
            plane = task - row * planes
            image = row // lines
            number = row - image * lines
            offset = ld_i64(table, number)
            line = to + ((image * planes + plane) * lines + number) * length * pixel
            if offset == -1:
                fill_zero(line, length * pixel)
                continue
            if first > 0:
                fill_zero(line, first * pixel)
            if first + count < length:
                fill_zero(line + (first + count) * pixel, (length - first - count) * pixel)
            x = source + image * image_stride + plane * plane_stride + offset
            y = line + first * pixel
            if feature_stride == itemsize and stride == pixel:
                copy_bytes(y, x, count * pixel)
            elif feature_stride == itemsize and features >= 4:
                for w in range(count):
                    copy_bytes(y + w * pixel, x + w * stride, pixel)
            elif features == 1:
                for w in range(count):
                    st(y, w, ld(x + w * stride, 0, proto))
            else:
                for f in range(features):
                    for w in range(count):
                        st(y, w * features + f, ld(x + w * stride + f * feature_stride, 0, proto))

    return kernel
