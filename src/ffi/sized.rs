//! Structs that grow: their first member is their size as the caller knows it.
//!
//! A shorter one comes from an older header, and its missing tail is the default. A longer one comes from a newer
//! header: it is taken if what this library does not know is zero. Only whole fields are read and written.

use super::{boundary::Call, error::Failure};
use crate::error::Error;
use std::{mem::MaybeUninit, ptr};

/// No struct of any version is longer; a `size` beyond was never set.
const SIZE_MAX: usize = 4096;

/// A struct of C that begins with its own size. All zeros are its defaults.
///
/// # Safety
///
/// It is `repr(C)`, its first field is a `usize`, zero bytes are a value of it, and [`BOUNDS`](Self::BOUNDS) holds
/// the offset of each field and its size, ascending.
pub(super) unsafe trait Sized: Copy {
    const NAME: &'static str;
    const BOUNDS: &'static [usize];
}

/// A struct of C without a size: arrays of it come with the size of one.
///
/// # Safety
///
/// As [`Sized`], without the first field.
pub(super) unsafe trait Item: Copy {
    const NAME: &'static str;
    const BOUNDS: &'static [usize];
}

/// Implements [`Sized`] or [`Item`] for a struct of integers, floats, pointers and callbacks, by its fields in order.
macro_rules! layout {
    ($kind:ident $name:ident { $($field:ident),+ $(,)? }) => {
        // SAFETY: the fields are listed in order, and all are integers, floats, pointers or optional functions.
        unsafe impl $crate::ffi::sized::$kind for $name {
            const NAME: &'static str = stringify!($name);
            const BOUNDS: &'static [usize] =
                &[$(std::mem::offset_of!($name, $field)),+, std::mem::size_of::<$name>()];
        }
        const _: () = {
            // A field that is missing in the list would not compile here.
            #[allow(dead_code)]
            fn all_fields(value: $name) { let $name { $($field: _),+ } = value; }
        };
    };
}
pub(super) use layout;

/// The end of the last field that lies within `size`.
fn whole_fields(bounds: &[usize], size: usize) -> usize {
    bounds.iter().copied().filter(|bound| *bound <= size).max().unwrap_or(0)
}

/// A value of zeros, which are the defaults.
fn zeros<T: Copy>() -> MaybeUninit<T> {
    MaybeUninit::zeroed()
}

/// Copies the fields within `size` bytes at `from`; what lies beyond our own must be zero.
fn read<T: Copy>(
    from: *const T,
    size: usize,
    name: &str,
    bounds: &[usize],
) -> Result<MaybeUninit<T>, Failure> {
    let mut value = zeros::<T>();
    let len = whole_fields(bounds, size);
    // SAFETY: `size` bytes lie at `from`, `size_of::<T>()` in `value`, and `len` is no more than both.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast(), len) };
    for at in size_of::<T>()..size {
        // SAFETY: `size` bytes lie at `from`.
        let byte = unsafe { from.cast::<u8>().add(at) };
        // SAFETY: as above.
        if unsafe { byte.read() } != 0 {
            return Err(Failure::unsupported(format!(
                "byte {at} of {name} is not zero, and this version knows {} bytes of it",
                size_of::<T>()
            )));
        }
    }
    Ok(value)
}

impl Call {
    /// The size that C wrote in front of a struct.
    fn size_of<T: Sized>(&self, from: *const T) -> Result<usize, Failure> {
        // SAFETY: the call's contract: a struct that is not NULL begins with its size.
        let size = unsafe { from.cast::<usize>().read_unaligned() };
        if size < size_of::<usize>() || size > SIZE_MAX {
            return Err(Failure::invalid(format!(
                "{} says that its size is {size}: set it with {}_init",
                T::NAME,
                T::NAME
            )));
        }
        Ok(size)
    }

    /// Options: NULL is the defaults.
    pub(super) fn options<T: Sized>(&self, from: *const T) -> Result<T, Failure> {
        let value = if from.is_null() {
            zeros()
        } else {
            read(from, self.size_of(from)?, T::NAME, T::BOUNDS)?
        };
        // SAFETY: zeros are a value of `T`, and each field that was copied is one of the caller's.
        Ok(unsafe { value.assume_init() })
    }

    /// What this version knows of options, whatever else there is; they are not NULL.
    pub(super) fn known<T: Sized>(&self, from: *const T) -> Result<T, Failure> {
        let size = self.size_of(from)?.min(size_of::<T>());
        let value = read(from, size, T::NAME, T::BOUNDS)?;
        // SAFETY: as in `options`.
        Ok(unsafe { value.assume_init() })
    }

    /// Zeroes a struct and sets its size.
    pub(super) fn init<T: Sized>(&self, place: *mut T, size: usize) {
        if place.is_null() || size < size_of::<usize>() {
            return;
        }
        // SAFETY: the call's contract: `size` bytes lie at `place`.
        unsafe { place.cast::<u8>().write_bytes(0, size) };
        // SAFETY: as above, and that is room for the size.
        unsafe { place.cast::<usize>().write_unaligned(size) };
    }

    /// A struct that is written: a check that C set its size.
    pub(super) fn out_struct<T: Sized>(
        &self,
        place: *mut T,
        name: &'static str,
    ) -> Result<OutStruct<'_, T>, Failure> {
        if place.is_null() {
            return Err(Failure::invalid(format!("{name} is NULL")));
        }
        let size = self.size_of(place)?;
        Ok(OutStruct { place, size, call: std::marker::PhantomData })
    }

    /// An array of structs that are `item_size` apart.
    pub(super) fn items<T: Item>(
        &self,
        items: *const T,
        item_size: usize,
        n: usize,
        name: &'static str,
    ) -> Result<Vec<T>, Failure> {
        if n == 0 {
            return Ok(Vec::new());
        }
        if items.is_null() {
            return Err(Failure::invalid(format!("{name} is NULL, but {n} long")));
        }
        if item_size == 0 || item_size > SIZE_MAX || n > isize::MAX as usize / item_size {
            return Err(Failure::invalid(format!(
                "{n} of {name}, each of {item_size} bytes: item_size is sizeof({})",
                T::NAME
            )));
        }
        let mut out = Vec::new();
        out.try_reserve_exact(n).map_err(|_| Error::OutOfMemory {
            what: "an array of arguments",
            bytes: (n as u64).saturating_mul(size_of::<T>() as u64),
        })?;
        for i in 0..n {
            // SAFETY: the call's contract: `n` items of `item_size` bytes lie there.
            let item = unsafe { items.cast::<u8>().add(i * item_size) };
            let value = read(item.cast::<T>(), item_size, T::NAME, T::BOUNDS)?;
            // SAFETY: as in `options`.
            out.push(unsafe { value.assume_init() });
        }
        Ok(out)
    }
}

/// A struct to write into.
pub(super) struct OutStruct<'a, T> {
    place: *mut T,
    size: usize,
    call: std::marker::PhantomData<&'a Call>,
}

impl<T: Sized> OutStruct<'_, T> {
    /// Writes the fields that C's version has, but not `size`, which stays C's.
    pub(super) fn write(&self, value: &T) {
        let first = size_of::<usize>();
        let len = whole_fields(T::BOUNDS, self.size).max(first) - first;
        // SAFETY: `first` bytes and `len` more are in the struct.
        let from = unsafe { ptr::from_ref(value).cast::<u8>().add(first) };
        // SAFETY: C's struct has `size` bytes, of which these are the ones after the first field.
        let to = unsafe { self.place.cast::<u8>().add(first) };
        // SAFETY: both have `len` bytes, and one is ours, the other C's.
        unsafe { ptr::copy_nonoverlapping(from, to, len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Sample {
        size: usize,
        a: u32,
        b: u64,
        c: u64,
    }
    layout!(Sized Sample { size, a, b, c });

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Pair {
        x: u32,
        y: u32,
    }
    layout!(Item Pair { x, y });

    fn call() -> Call {
        // SAFETY: the pointers below are live locals of the sizes given.
        unsafe { Call::begin() }
    }

    #[test]
    fn older_and_newer_structs_are_read() {
        let call = call();
        let mut bytes = [0u64; 6];
        let place = bytes.as_mut_ptr().cast::<Sample>();
        let mut with = |values: [u64; 6]| {
            bytes = values;
            call.options(place).map(|s| (s.a, s.b, s.c)).map_err(|e| e.to_string())
        };
        assert_eq!(with([32, 1, 2, 3, 9, 9]), Ok((1, 2, 3)));
        assert_eq!(with([24, 1, 2, 3, 9, 9]), Ok((1, 2, 0)), "older");
        assert_eq!(with([20, 1, 2, 3, 9, 9]), Ok((1, 0, 0)), "half a field is none");
        assert_eq!(with([8, 1, 2, 3, 9, 9]), Ok((0, 0, 0)));
        assert_eq!(with([48, 1, 2, 3, 0, 0]), Ok((1, 2, 3)), "newer, unused");
        let error = with([48, 1, 2, 3, 0, 1 << 56]).expect_err("newer and used");
        assert!(error.contains("byte 47 of Sample"), "{error}");
        for size in [0, 7, 5000, u64::MAX] {
            assert!(with([size, 1, 2, 3, 0, 0]).is_err(), "size {size}");
        }
        assert_eq!(call.options::<Sample>(ptr::null()).map(|s| s.a).map_err(|_| ()), Ok(0));
    }

    #[test]
    fn no_more_is_written_than_there_is() {
        let call = call();
        let ours = Sample { size: 1, a: 5, b: 6, c: 7 };
        for (size, want) in [(32, [32, 5, 6, 7]), (24, [24, 5, 6, 99]), (8, [8, 99, 99, 99])] {
            let mut bytes = [size, 99, 99, 99u64];
            let place = bytes.as_mut_ptr().cast::<Sample>();
            call.out_struct(place, "out").expect("a size").write(&ours);
            let mut got = bytes;
            got[1] &= if size > 8 { 0xffff_ffff } else { u64::MAX };
            assert_eq!(got, want, "size {size}");
        }
        let mut bytes = [9u64; 4];
        call.init(bytes.as_mut_ptr().cast::<Sample>(), 24);
        assert_eq!(bytes, [24, 0, 0, 9]);
    }

    #[test]
    fn items_have_the_size_of_their_header() {
        let call = call();
        let data = [1u32, 2, 0, 3, 4, 0];
        let items = |item_size, n| {
            call.items::<Pair>(data.as_ptr().cast(), item_size, n, "pairs").map_err(|e| e.status())
        };
        assert_eq!(items(12, 2), Ok(vec![Pair { x: 1, y: 2 }, Pair { x: 3, y: 4 }]));
        assert_eq!(items(4, 2), Ok(vec![Pair { x: 1, y: 0 }, Pair { x: 2, y: 0 }]));
        assert_eq!(items(16, 1), Err(crate::ffi::status::TERN_ERR_UNSUPPORTED));
        for (size, n) in [(0, 1), (8, usize::MAX), (9000, 1)] {
            assert_eq!(items(size, n), Err(crate::ffi::status::TERN_ERR_INVALID_ARGUMENT));
        }
    }
}
