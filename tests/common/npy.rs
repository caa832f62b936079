//! Reads the arrays of `tests/data/oracle`: NumPy's `.npy`, version 1, little-endian, C order.

/// The shape and the 4-byte values of an array.
fn read<T>(name: &str, kind: &str, value: impl Fn([u8; 4]) -> T) -> (Vec<usize>, Vec<T>) {
    let path = format!("{}/tests/data/oracle/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{name}");
    let len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + len]).expect("ascii");
    assert!(header.contains(kind) && header.contains("'fortran_order': False"), "{name}: {header}");
    let shape =
        header.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("a shape").0;
    let shape: Vec<usize> = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let values: Vec<T> =
        bytes[10 + len..].chunks_exact(4).map(|b| value([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
    (shape, values)
}

/// An array of f32.
pub fn floats(name: &str) -> (Vec<usize>, Vec<f32>) {
    read(name, "<f4", f32::from_le_bytes)
}

/// An array of i32.
pub fn ints(name: &str) -> (Vec<usize>, Vec<i32>) {
    read(name, "<i4", i32::from_le_bytes)
}
