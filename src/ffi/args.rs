//! What C gives and takes: text, arrays, buffers, outputs.

use super::{
    boundary::Call,
    error::Failure,
    status::{TERN_OK, tern_seq, tern_status},
};
use crate::error::Error;
use std::{
    ffi::{CStr, c_char},
    ptr::NonNull,
    slice,
};

/// As a length: up to the first NUL.
pub(super) const NUL_TERMINATED: usize = usize::MAX;

/// A place for one output, known not to be NULL.
pub(super) struct Out<'a, T> {
    place: NonNull<T>,
    call: std::marker::PhantomData<&'a Call>,
}

impl<T> Out<'_, T> {
    /// Writes the output.
    pub(super) fn write(&self, value: T) {
        // SAFETY: the call's contract: an output that is not NULL is a place for its type.
        unsafe { self.place.write(value) }
    }
}

impl Call {
    /// An output that must be there.
    pub(super) fn out<T>(&self, place: *mut T, name: &'static str) -> Result<Out<'_, T>, Failure> {
        self.out_opt(place).ok_or_else(|| Failure::invalid(format!("{name} is NULL")))
    }

    /// An output that C may not want.
    pub(super) fn out_opt<T>(&self, place: *mut T) -> Option<Out<'_, T>> {
        NonNull::new(place).map(|place| Out { place, call: std::marker::PhantomData })
    }

    /// Bytes of a text, or any bytes; a length of [`NUL_TERMINATED`] is up to the NUL.
    pub(super) fn raw_text(
        &self,
        text: *const c_char,
        len: usize,
        name: &'static str,
    ) -> Result<&[u8], Failure> {
        if text.is_null() {
            return Err(Failure::invalid(format!("{name} is NULL")));
        }
        if len == NUL_TERMINATED {
            // SAFETY: the call's contract: text of this length has a NUL.
            return Ok(unsafe { CStr::from_ptr(text) }.to_bytes());
        }
        self.array(text.cast(), len, name)
    }

    /// A text in UTF-8.
    pub(super) fn text(
        &self,
        text: *const c_char,
        len: usize,
        name: &'static str,
    ) -> Result<&str, Failure> {
        let bytes = self.raw_text(text, len, name)?;
        str::from_utf8(bytes).map_err(|error| {
            Failure::invalid(format!("{name} is not UTF-8 at byte {}", error.valid_up_to()))
        })
    }

    /// A text where NULL means none.
    pub(super) fn text_opt(
        &self,
        text: *const c_char,
        len: usize,
        name: &'static str,
    ) -> Result<Option<&str>, Failure> {
        if text.is_null() { Ok(None) } else { self.text(text, len, name).map(Some) }
    }

    /// A path: bare, NUL-terminated, UTF-8 on every system.
    pub(super) fn path(&self, path: *const c_char, name: &'static str) -> Result<&str, Failure> {
        match self.text(path, NUL_TERMINATED, name)? {
            "" => Err(Failure::invalid(format!("{name} is empty"))),
            path => Ok(path),
        }
    }

    /// An array; NULL will do for none.
    pub(super) fn array<T>(
        &self,
        items: *const T,
        len: usize,
        name: &'static str,
    ) -> Result<&[T], Failure> {
        if len == 0 {
            return Ok(&[]);
        }
        if items.is_null() {
            return Err(Failure::invalid(format!("{name} is NULL, but {len} long")));
        }
        if !items.is_aligned() || len > isize::MAX as usize / size_of::<T>().max(1) {
            return Err(Failure::invalid(format!(
                "{name} at {items:p}, {len} long, is no array in memory"
            )));
        }
        // SAFETY: the call's contract: `len` values lie there; neither NULL, nor unaligned, nor larger than memory.
        Ok(unsafe { slice::from_raw_parts(items, len) })
    }

    /// Texts with their lengths; `lens` NULL: all end with a NUL.
    pub(super) fn texts(
        &self,
        texts: *const *const c_char,
        lens: *const usize,
        n: usize,
        name: &'static str,
    ) -> Result<Vec<&str>, Failure> {
        let texts = self.array(texts, n, name)?;
        let lens = if lens.is_null() { None } else { Some(self.array(lens, n, "lens")?) };
        let len = |i: usize| lens.map_or(NUL_TERMINATED, |lens| lens[i]);
        texts.iter().enumerate().map(|(i, text)| self.text(*text, len(i), name)).collect()
    }

    /// Copies text or bytes out, with a NUL where there is room.
    pub(super) fn give_text(
        &self,
        text: &[u8],
        buf: *mut c_char,
        cap: usize,
        out_len: *mut usize,
    ) -> Result<tern_status, Failure> {
        self.give_array(text, buf.cast(), cap, out_len, "out_len")?;
        if text.len() < cap {
            // SAFETY: the call's contract: `buf` has `cap` bytes, and this is one of them.
            let end = unsafe { buf.add(text.len()) };
            // SAFETY: as above.
            unsafe { end.write(0) };
        }
        Ok(TERN_OK)
    }

    /// Copies values out; NULL and a room of 0 asks for the size.
    pub(super) fn give_array<T: Copy>(
        &self,
        values: &[T],
        buf: *mut T,
        cap: usize,
        out_n: *mut usize,
        name: &'static str,
    ) -> Result<tern_status, Failure> {
        let out_n = self.out(out_n, name)?;
        let Some(buf) = NonNull::new(buf) else {
            if cap > 0 {
                return Err(Failure::invalid(format!("buf is NULL, but cap is {cap}")));
            }
            out_n.write(values.len());
            return Ok(TERN_OK);
        };
        if !buf.is_aligned() {
            return Err(Failure::invalid("buf is not aligned"));
        }
        out_n.write(values.len());
        if values.len() > cap {
            return Err(Failure::BufferTooSmall);
        }
        // SAFETY: `buf` has `cap` places, which are enough, and are the host's, not ours.
        unsafe { NonNull::from(values).cast().copy_to_nonoverlapping(buf, values.len()) };
        Ok(TERN_OK)
    }
}

/// The index of a sequence.
pub(super) fn sequence(s: tern_seq) -> Result<usize, Failure> {
    usize::try_from(s).map_err(|_| Failure::invalid(format!("sequence {s}")))
}

/// Refuses flags that this library does not know.
pub(super) fn flags(flags: u32, known: u32) -> Result<u32, Failure> {
    match flags & !known {
        0 => Ok(flags),
        unknown => Err(Failure::unsupported(format!("flags {unknown:#x}"))),
    }
}

/// Refuses a number that names none of the cases this library knows.
pub(super) fn unknown(what: &str, value: i32) -> Failure {
    Error::InvalidArgument(format!("{what} {value} is none that this version knows").into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::status::*;
    use std::ptr::{null, null_mut};

    #[test]
    fn text_is_checked() {
        // SAFETY: the pointers below are live locals of the lengths given.
        let call = unsafe { Call::begin() };
        let text = |bytes: &[u8], len| {
            call.text(bytes.as_ptr().cast(), len, "text")
                .map(str::to_owned)
                .map_err(|e| e.to_string())
        };
        assert_eq!(text(b"abc\0def", NUL_TERMINATED), Ok("abc".into()));
        assert_eq!(text(b"abc\0def", 5), Ok("abc\0d".into()));
        assert_eq!(text(b"abc", 0), Ok(String::new()));
        assert_eq!(
            text(b"ab\xffc", 4),
            Err("invalid argument: text is not UTF-8 at byte 2".into())
        );
        assert!(call.text(null(), 0, "text").is_err());
        assert!(call.array::<u32>(null(), 1, "items").is_err());
        assert!(call.array::<u32>(std::ptr::dangling::<u32>(), usize::MAX, "items").is_err());
        assert!(call.array::<u32>(std::ptr::without_provenance(3), 1, "items").is_err());
        assert!(call.array::<u32>(null(), 0, "items").is_ok_and(<[u32]>::is_empty));
    }

    #[test]
    fn buffers_are_asked_and_filled() {
        // SAFETY: the pointers below are live locals of the lengths given.
        let call = unsafe { Call::begin() };
        let mut n = 77;
        let give = |buf: *mut c_char, cap, n: &mut usize| {
            call.run(|call| call.give_text(b"four", buf, cap, n))
        };
        assert_eq!((give(null_mut(), 0, &mut n), n), (TERN_OK, 4));
        assert_eq!(give(null_mut(), 9, &mut n), TERN_ERR_INVALID_ARGUMENT);
        let mut buf = [b'x' as c_char; 6];
        n = 0;
        assert_eq!((give(buf.as_mut_ptr(), 3, &mut n), n), (TERN_ERR_BUFFER_TOO_SMALL, 4));
        assert_eq!(buf, [b'x' as c_char; 6]);
        assert_eq!((give(buf.as_mut_ptr(), 4, &mut n), n), (TERN_OK, 4));
        assert_eq!(buf.map(|c| c as u8), *b"fourxx");
        assert_eq!(give(buf.as_mut_ptr(), 6, &mut n), TERN_OK);
        assert_eq!(buf.map(|c| c as u8), *b"four\0x");
        assert_eq!(
            call.run(|call| call.give_text(b"", buf.as_mut_ptr(), 6, null_mut())),
            TERN_ERR_INVALID_ARGUMENT
        );
    }
}
