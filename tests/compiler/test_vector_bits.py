"""A vector width set in the process holds for what is compiled from then on, and no program mixes two widths."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import config, lax
from fgrad.kernels.cpu import jit as engine
from fgrad.kernels.cpu.tile_spec import TileSpec


@pytest.fixture(autouse=True)
def width_as_before():
    before = dict(config._overrides)
    yield
    config._overrides.clear()
    config._overrides.update(before)
    fgrad.clear_caches()


def step(w, x):
    def loss(w):
        h = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return fnp.sum(fnp.tanh(h) ** 2)

    return fgrad.value_and_grad(loss)(w)


def test_every_width_in_one_process(monkeypatch):
    rng = np.random.default_rng(0)
    w = rng.integers(-1, 2, (3, 3, 4, 40)).astype(np.float32) / 8
    x = rng.integers(-2, 3, (2, 9, 9, 4)).astype(np.float32) / 8
    f = fgrad.jit(step)
    want_value, want_grad = f(w, x)
    for bits in (128, 256, 512, None, 128):
        config.set_cpu_vector_bits(bits)
        assert config.cpu_vector_bits() == bits
        assert fgrad.cache_info().entries == 0  # nothing that was compiled for another width is left
        monkeypatch.setattr(engine, "_addresses", {})
        value, grad = f(w, x)
        np.testing.assert_allclose(value, want_value, rtol=1e-5)
        np.testing.assert_allclose(grad, want_grad, rtol=1e-4, atol=1e-4)
        used = list(engine._addresses)
        assert {key for _, key in used} == {bits}
        if bits is not None:
            tiles = [spec for spec, _ in used if isinstance(spec, TileSpec)]
            assert tiles and {tile.vl * 32 for tile in tiles} == {bits}


def test_eager_kernels_too(monkeypatch):
    monkeypatch.setattr(engine, "_addresses", {})
    x = fnp.ones((16, 16))
    config.set_cpu_vector_bits(128)
    lax.dot(x, x)
    config.set_cpu_vector_bits(256)
    lax.dot(x, x)
    tiles = [(spec.vl * 32, bits) for spec, bits in engine._addresses if isinstance(spec, TileSpec)]
    assert set(tiles) == {(128, 128), (256, 256)}


def test_a_width_that_cannot_be_leaves_the_one_before():
    config.set_cpu_vector_bits(256)
    with pytest.raises(fgrad.errors.ConfigError):
        config.set_cpu_vector_bits(96)
    assert config.cpu_vector_bits() == 256
