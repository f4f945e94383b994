// SPDX-License-Identifier: GPL-2.0
//! A file that is there as a whole or not at all.

use crate::failure::{Failure, Kind, Result};
use std::fs::Permissions;
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A new file beside the one that it is to replace; gone if it never does.
pub struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Fails if no file can be made where `path` is.
    pub fn beside(path: &Path) -> Result<Self> {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".gvahint")
            .permissions(mode())
            .tempfile_in(parent.unwrap_or(Path::new(".")))
            .map_err(|error| cannot_write(path, &error))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// Puts it in place with that content; others may read it.
    pub fn replace(self, text: &str) -> Result<()> {
        let Self { mut file, path } = self;
        let write = || {
            file.write_all(text.as_bytes())?;
            // The umask has been at it.
            file.as_file().set_permissions(mode())?;
            file.persist(&path).map_err(|error| error.error)
        };
        write()
            .map(drop)
            .map_err(|error| cannot_write(&path, &error))
    }
}

fn mode() -> Permissions {
    Permissions::from_mode(0o644)
}

fn cannot_write(path: &Path, error: &Error) -> Failure {
    let what = format!("cannot write {}: {error}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied => Failure::new(Kind::Permission, what),
        _ => Failure::new(Kind::Failed, what),
    }
}
