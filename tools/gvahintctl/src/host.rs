// SPDX-License-Identifier: GPL-2.0
//! The host's files: the module's, and those of /proc, /sys and /dev.

use crate::failure::{Failure, Kind, Result};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Longest piece of a file that an error shows.
const SHOWN: usize = 60;
/// What a read answers if the VM went after its file was opened.
const ENODEV: i32 = 19;
/// Within which the kernel has made all of a VM's files, or its directory is gone after them.
const SETTLED: Duration = Duration::from_millis(50);

/// Where everything is.
pub struct Host {
    root: PathBuf,
    sysfs: PathBuf,
    /// Whether /proc below the root is of the host that `sysfs` is of.
    same: bool,
}

impl Host {
    /// A host below `root`, with the module's files in `sysfs`, if that is elsewhere: then they are a copy,
    /// and processes of this machine are not those of its VMs.
    pub fn new(root: PathBuf, sysfs: Option<PathBuf>) -> Self {
        let same = sysfs.is_none() || root != Path::new("/");
        let sysfs = sysfs.unwrap_or_else(|| root.join("sys/kernel/gvahint"));
        Self { root, sysfs, same }
    }

    /// The path of an absolute one below the root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What a file outside the module's directory holds, without white space around it; `None` if it can't be read.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// What a file in /proc of a VM's process holds.
    pub fn of_process(&self, pid: u64, name: &str) -> Option<String> {
        self.text(&format!("/proc/{pid}/{name}"))
            .filter(|_| self.same)
    }

    /// Whether there is such a file or directory.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Whether the module's directory is there.
    pub fn is_loaded(&self) -> bool {
        self.sysfs.is_dir()
    }

    /// Fails unless the module's directory is there.
    pub fn need_module(&self) -> Result<()> {
        match self.is_loaded() {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::NotLoaded,
                format!(
                    "gvahint is not loaded: there is no {}",
                    self.sysfs.display()
                ),
            )
            .remedy("load it: modprobe gvahint; see `gvahintctl doctor`")),
        }
    }

    /// The path of one of the module's files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.sysfs.join(name)
    }

    /// What one of the module's files holds.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = self.file(name);
        let bytes = fs::read(&path).map_err(|error| self.refused("read", name, &error))?;
        let text = String::from_utf8(bytes)
            .map_err(|error| garbage(&path, &String::from_utf8_lossy(error.as_bytes()), "text"))?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// What one of the module's files holds, understood by `parse`; `due` says what it should be.
    pub fn parse<T>(
        &self,
        name: &str,
        due: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T> {
        let text = self.read(name)?;
        parse(&text).ok_or_else(|| garbage(&self.file(name), &text, due))
    }

    /// Writes one of the module's files, in one call. It has to be there.
    pub fn write(&self, name: &str, value: &str) -> Result<()> {
        let file = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.file(name));
        file.and_then(|mut file| io::Write::write_all(&mut file, format!("{value}\n").as_bytes()))
            .map_err(|error| self.refused("write", name, &error))
    }

    /// Names in one of the module's directories.
    pub fn names(&self, name: &str) -> Result<Vec<String>> {
        let refused = |error| self.refused("list", name, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.file(name)).map_err(refused)? {
            names.push(
                entry
                    .map_err(refused)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        names.sort();
        Ok(names)
    }

    /// The VMs that the module knows, in the order of their numbers.
    pub fn vms(&self) -> Result<Vec<u64>> {
        let mut ids = Vec::new();
        for name in self.names("vms")? {
            let due = || {
                garbage(
                    &self.file("vms"),
                    &name,
                    "directories with numbers for names",
                )
            };
            ids.push(name.parse().map_err(|_| due())?);
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Why a file of the module can't be had.
    fn refused(&self, verb: &str, name: &str, error: &io::Error) -> Failure {
        let path = self.file(name);
        let path = path.display();
        let gone = error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV);
        if gone {
            if let Err(not_loaded) = self.need_module() {
                return not_loaded;
            }
            let vm = name
                .strip_prefix("vms/")
                .and_then(|rest| rest.split('/').next());
            if let Some(vm) = vm.filter(|vm| self.comes_or_goes(vm, name)) {
                return self.no_vm(vm);
            }
        }
        match error.kind() {
            ErrorKind::PermissionDenied => Failure::new(
                Kind::Permission,
                format!("cannot {verb} {path}: no permission"),
            )
            .remedy("run it as root: ages of guest memory are not for everybody"),
            ErrorKind::NotFound => Failure::new(Kind::Failed, format!("there is no {path}"))
                .remedy("the module is of another version than gvahintctl: update the older one"),
            ErrorKind::InvalidInput => Failure::new(
                Kind::Failed,
                format!("the module refuses that value for {path}"),
            )
            .remedy("see `gvahintctl set --help`, and whether the module is of another version"),
            _ => Failure::new(Kind::Failed, format!("cannot {verb} {path}: {error}")),
        }
    }

    /// Whether a VM's file is missing because the VM begins or ends: the directory is made first and goes last.
    fn comes_or_goes(&self, vm: &str, name: &str) -> bool {
        let is_there = || self.file("vms").join(vm).exists();
        if !is_there() {
            return true;
        }
        thread::sleep(SETTLED);
        !is_there() || self.file(name).exists()
    }

    /// There is no VM of that number.
    pub fn no_vm(&self, id: &str) -> Failure {
        let known: Vec<_> = self
            .vms()
            .unwrap_or_default()
            .iter()
            .map(u64::to_string)
            .collect();
        let known = match &known[..] {
            [] => "there is none".to_owned(),
            ids => format!("there are: {}", ids.join(", ")),
        };
        Failure::new(
            Kind::NoVm,
            format!("there is no VM {id}, or it is gone ({known})"),
        )
        .remedy("`gvahintctl status` lists the VMs and their processes")
    }
}

/// A file holds what it can't.
pub fn garbage(path: &Path, text: &str, due: &str) -> Failure {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown += "...";
    }
    let what = format!("{} holds {shown:?}, which is not {due}", path.display());
    Failure::new(Kind::Garbage, what)
        .remedy("if this is the running module's file: its version and gvahintctl's do not fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if a VM of which the directory goes last, or comes first, passes for files that are missing; or
    // files that stay missing for one.
    #[test]
    fn vms_come_and_go() {
        const SOON: Duration = Duration::from_millis(5);
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path().to_owned(), None);
        let kind = || host.read("vms/7/pid").unwrap_err().kind;
        let vm = host.file("vms/7");
        fs::create_dir_all(&vm).unwrap();
        assert_eq!(kind(), Kind::Failed);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(SOON);
                fs::write(vm.join("pid"), "1").unwrap();
            });
            assert_eq!(kind(), Kind::NoVm);
        });
        fs::remove_file(vm.join("pid")).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(SOON);
                fs::remove_dir(&vm).unwrap();
            });
            assert_eq!(kind(), Kind::NoVm);
        });
    }
}
