//! What can be wrong with one field of a GGUF file, and what may be.

use super::raw::{Field, Raw, Role};

/// Numbers near the old one, at the edges of its width, and beyond what fits the file.
fn near(old: &[u8], file: usize) -> Vec<Vec<u8>> {
    let number = old.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    [
        0,
        1,
        number.wrapping_sub(1),
        number + 1,
        2 * number,
        file as u64,
        1 << 31,
        u64::MAX >> 1,
        u64::MAX - 31,
        u64::MAX,
    ]
    .iter()
    .map(|n| n.to_le_bytes()[..old.len()].to_vec())
    .collect()
}

/// What to put in a field's place.
pub(crate) fn spoiled(raw: &Raw, field: &Field) -> Vec<Vec<u8>> {
    let old = &raw.bytes[field.at.clone()];
    let numbers =
        |numbers: &[u32]| numbers.iter().map(|n| n.to_le_bytes().to_vec()).collect::<Vec<_>>();
    let bytes = |places: &[usize], values: &[u8]| {
        let with = |place: &usize, value: u8| {
            let mut bytes = old.to_vec();
            bytes[*place] = value;
            bytes
        };
        places
            .iter()
            .flat_map(|place| values.iter().map(move |value| with(place, *value)))
            .collect::<Vec<_>>()
    };
    match field.role {
        Role::Magic => bytes(&[0, 1, 2, 3], b"x\0g\xff"),
        Role::Version => numbers(&[0, 1, 2, 4, 5, 0x0200_0000, 0x0300_0000, u32::MAX]),
        Role::Key | Role::Name => bytes(&[0, old.len() - 1], b"\0\xffx"),
        Role::ValueType => {
            numbers(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255, 1 << 16, u32::MAX])
        }
        Role::Number | Role::Text | Role::Bool => {
            [0, 1, 2, 0x80, 0xff].map(|byte| vec![byte; old.len()]).into()
        }
        Role::Alignment => numbers(&[
            0,
            1,
            2,
            3,
            4,
            8,
            16,
            31,
            33,
            48,
            64,
            1 << 12,
            1 << 20,
            1 << 30,
            1 << 31,
            u32::MAX,
        ]),
        Role::TensorType => {
            numbers(&(0..400).chain([0x7e00, 0x7eff, 1 << 16, u32::MAX]).collect::<Vec<_>>())
        }
        _ => near(old, raw.bytes.len()),
    }
}

/// Why a file still loads with `new` in a field's place; `None` if it must not.
pub(crate) fn harmless(raw: &Raw, field: &Field, new: &[u8]) -> Option<&'static str> {
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (old, new) = (number(&raw.bytes[field.at.clone()]), (number(new), new));
    match field.role {
        Role::Version => (new.0 == 2).then_some("version 2 has the same layout"),
        Role::TensorCount => (new.0 == 0).then_some("a file without tensors is a vocabulary"),
        Role::Key | Role::Name => {
            (new.1[0] == b'x' || new.1.ends_with(b"x")).then_some("any name is a name")
        }
        Role::Number | Role::Text => Some("any number, any bytes"),
        Role::Bool => (new.0 < 2).then_some("the other truth value"),
        Role::Alignment => {
            (new.0.is_power_of_two() && new.0 < 32).then_some("the data follow earlier")
        }
        Role::ValueType => {
            let width = |kind: u64| {
                [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8].get(kind as usize).copied().unwrap_or(0)
            };
            let value = &raw.bytes[field.at.end..];
            let same = width(old) > 0 && width(old) == width(new.0);
            match (field.name.as_str(), new.0) {
                ("general.alignment: type", 6) => None,
                ("n.bool: type" | "a.bool: element type", 0 | 1) => {
                    Some("truth values read as bytes")
                }
                ("s.empty: type", 10..=12) => Some("an empty string reads as the number 0"),
                ("a.empty: type", 8) if value[..4] == [4, 0, 0, 0] => {
                    Some("an empty array reads as a string of 4")
                }
                ("a.empty: element type", 0..=8 | 10..=12) => Some("nothing of whatever kind"),
                (_, 7) => None,
                _ => same.then_some("the bytes read as another type of that width"),
            }
        }
        Role::Dimension | Role::TensorType | Role::Offset => {
            fits(raw, field, new.1).then_some("it still fits its place")
        }
        _ => None,
    }
}

/// Whether the tensors of the sample lie apart and within the file once a field is changed: worked out
/// here from the formats' own numbers.
fn fits(raw: &Raw, field: &Field, new: &[u8]) -> bool {
    let mut bytes = raw.bytes.clone();
    bytes[field.at.clone()].copy_from_slice(new);
    let of = |role: Role, name: &str| -> Vec<u64> {
        let of = |field: &&Field| field.role == role && field.name.starts_with(name);
        let read = |field: &Field| {
            bytes[field.at.clone()].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        raw.fields.iter().filter(of).map(read).collect()
    };
    let header = raw.fields.last().unwrap().at.end.next_multiple_of(32) as u64;
    let mut ends = Vec::new();
    for name in raw.fields.iter().filter(|field| field.role == Role::Name).map(|field| &field.name)
    {
        let (dims, offset) = (of(Role::Dimension, name), of(Role::Offset, name)[0]);
        let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let Some(elements) = elements.filter(|n| *n > 0 && *n < 1 << 40) else { return false };
        let (block, size, tail) = match of(Role::TensorType, name)[0] {
            0 => (1, 4, 0),
            1 | 30 => (1, 2, 0),
            2 => (32, 18, 0),
            8 => (32, 34, 0),
            12 => (256, 144, 0),
            14 => (256, 210, 0),
            34 => (256, 54, 0),
            35 => (256, 66, 0),
            36 => (128, 32, 32),
            _ => return false,
        };
        if dims[0] % block != 0 || offset % 32 != 0 || offset > raw.bytes.len() as u64 {
            return false;
        }
        ends.push((header + offset, header + offset + elements / block * size + tail));
    }
    ends.sort_unstable();
    ends.windows(2).all(|pair| pair[0].1 <= pair[1].0)
        && ends.last().unwrap().1 <= raw.bytes.len() as u64
}
