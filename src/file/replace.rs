//! Files that appear whole or not at all.

use crate::error::{Error, Result};
use std::{
    fs::{self, File},
    io::{self, BufWriter, IntoInnerError, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Writes a file beside `path` and renames it there: a failure of `write` leaves `path` as it was.
///
/// # Errors
///
/// What `write` fails with; [`Error::Io`] naming the path.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let io = |source: io::Error| Error::Io { what: format!("writing {}", path.display()), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let beside = PathBuf::from(beside);
    let file = File::create(&beside).map_err(io)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut out).and_then(|()| {
        let file = out.into_inner().map_err(IntoInnerError::into_error).map_err(io)?;
        file.sync_all().map_err(io)?;
        drop(file);
        fs::rename(&beside, path).map_err(io)
    });
    if written.is_err() {
        // What is left of the attempt serves nobody.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("tern-replace-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("file");
        let text = |text: &'static [u8]| {
            move |out: &mut dyn Write| out.write_all(text).map_err(|_| Error::Cancelled)
        };
        replace(&path, text(b"first")).expect("writes");
        replace(&path, text(b"second")).expect("replaces");
        assert!(replace(&path, |_| Err(Error::Cancelled)).is_err());
        assert_eq!(fs::read(&path).expect("there"), b"second");
        assert_eq!(fs::read_dir(&folder).expect("there").count(), 1, "nothing beside it");
        fs::remove_dir_all(&folder).expect("ours");
        assert!(matches!(replace(&path, text(b"x")), Err(Error::Io { .. })), "no folder");
    }
}
