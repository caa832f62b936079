"""GGUF files as this model needs them: F32, F16 and I2_S tensors, version 3, 32-byte alignment.

I2_S packs 128 weights in 32 bytes; the f32 scale of the whole matrix follows the packed bytes:

    bit     7 6   5 4   3 2   1 0
    byte i  [i] [32+i] [64+i] [96+i]      code 0, 1, 2 means weight -1, 0, +1
"""

import struct

import numpy as np

F32, F16, I2_S = 0, 1, 36
ALIGNMENT = 32
U32, FLOAT, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def pack(trits: np.ndarray, scale: float) -> bytes:
    """Trits, row by row, to the bytes of an I2_S tensor."""
    if trits.shape[-1] % 128:
        raise ValueError(f"rows of {trits.shape[-1]} weights do not end at a block of 128")
    codes = (trits + 1).astype(np.uint8).reshape(-1, 4, 32)
    packed = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    return packed.tobytes() + struct.pack("<f", scale) + bytes(28)


def unpack(data: bytes, shape) -> tuple[np.ndarray, float]:
    """The way back."""
    count = int(np.prod(shape))
    packed = np.frombuffer(data, np.uint8, count // 4).reshape(-1, 32)
    codes = np.stack([packed >> shift & 3 for shift in (6, 4, 2, 0)], 1)
    return codes.reshape(shape).astype(np.int8) - 1, struct.unpack_from("<f", data, count // 4)[0]


def write(path, values: dict, tensors: list):
    """Writes keys (in their order) and tensors `(name, kind, array or (trits, scale))`."""
    head, data = bytearray(), bytearray()
    head += b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, value in values.items():
        head += text(key) + tagged(value)
    for name, kind, value in tensors:
        if kind == I2_S:
            shape, body = value[0].shape, pack(*value)
        else:
            shape, body = value.shape, np.ascontiguousarray(value, "<f4" if kind == F32 else "<f2").tobytes()
        head += text(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", kind, len(data))
        data += body + bytes(-len(body) % ALIGNMENT)
    head += bytes(-len(head) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(head + data)


def text(string):
    raw = string.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def kind_of(value):
    return {bool: BOOL, int: U32, float: FLOAT, str: STRING}[type(value)]


def plain(value):
    match value:
        case bool():
            return struct.pack("<?", value)
        case int():
            return struct.pack("<I", value)
        case float():
            return struct.pack("<f", value)
        case str():
            return text(value)


def tagged(value):
    if isinstance(value, list):
        kind = getattr(value, "kind", None) or kind_of(value[0])
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(map(plain, value))
    return struct.pack("<I", kind_of(value)) + plain(value)


def read(path) -> tuple[dict, dict]:
    """The keys and tensors of a file; an I2_S tensor comes as `(trits, scale)`."""
    data = open(path, "rb").read()
    at = 4

    def take(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value

    def string():
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length : at].decode("utf-8")

    def value(kind):
        if kind == STRING:
            return string()
        if kind == ARRAY:
            kind, count = take("I"), take("Q")
            return [value(kind) for _ in range(count)]
        return take({U32: "I", FLOAT: "f", BOOL: "?", 5: "i", 10: "Q", 11: "q"}[kind])

    if data[:4] != b"GGUF" or take("I") != 3:
        raise ValueError(f"{path}: not a GGUF file of version 3")
    tensors, keys = take("Q"), take("Q")
    values = {}
    for _ in range(keys):
        key = string()
        values[key] = value(take("I"))
    infos = []
    for _ in range(tensors):
        name = string()
        shape = tuple(take("Q") for _ in range(take("I")))[::-1]
        infos.append((name, shape, take("I"), take("Q")))
    base = -(-at // ALIGNMENT) * ALIGNMENT
    found = {}
    for name, shape, kind, offset in infos:
        start, count = base + offset, int(np.prod(shape))
        if kind == I2_S:
            found[name] = unpack(data[start : start + count // 4 + 4], shape)
        else:
            found[name] = np.frombuffer(data, {F32: "<f4", F16: "<f2"}[kind], count, start).reshape(shape)
    return values, found
