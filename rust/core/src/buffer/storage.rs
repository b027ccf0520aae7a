//! Where the buffer's files are: a folder on disk, or memory.
//!
//! Whoever writes decides when: nothing is durable before [`Storage::sync`] for a file's content,
//! and [`Storage::sync_folder`] for its existence. The tests have a third kind, which loses, tears
//! and fails.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Files by name.
pub trait Storage: Send + Sync {
    /// Makes it usable, and keeps others from writing to it: [`ErrorKind::WouldBlock`] if somebody
    /// else does. Cheap when it is usable already.
    fn prepare(&self) -> io::Result<()>;
    /// Names and lengths of all files; none if there is nothing yet.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// At most `length` bytes from an offset.
    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// What can be read of a file's first `length` bytes after [`Storage::read`] has failed, with
    /// zeros for the rest.
    ///
    /// # Errors
    /// Nothing of it can be read.
    fn salvage(&self, name: &str, length: usize) -> io::Result<Vec<u8>> {
        self.read(name, 0, length)
    }
    /// Writes bytes at the end of a file, which is at `at`; makes the file anew at 0.
    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Makes durable which files there are.
    fn sync_folder(&self) -> io::Result<()>;
    /// Cuts a file off.
    fn truncate(&self, name: &str, length: u64) -> io::Result<()>;
    /// Puts a durable file in place of the one with this name, at once or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Notes that a file is not written to any more.
    fn close(&self, _name: &str) {}
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Bytes free for files, if there is a limit.
    fn free(&self) -> Option<u64>;
    /// Lets others write.
    fn release(&self) {}
    /// Whether nothing may be written.
    fn is_read_only(&self) -> bool {
        false
    }
    /// Whether what was written is gone when the program ends.
    fn is_memory(&self) -> bool {
        false
    }
}

/// A folder on disk.
pub struct Disk {
    folder: PathBuf,
    /// Readers neither lock nor change anything.
    read_only: bool,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    lock: Option<File>,
    files: HashMap<String, Arc<File>>,
}

/// How many bytes of a disk are lost at once where it is worn out.
const PAGE: usize = 4 << 10;

/// Reads what can be read, page by page; the rest stays as it is.
///
/// # Errors
/// That of the last page if none can be read.
fn read_pages(bytes: &mut [u8], read: impl Fn(&mut [u8], u64) -> io::Result<()>) -> io::Result<()> {
    let mut result = Ok(());
    let mut is_read = false;
    let mut offset = 0;
    for page in bytes.chunks_mut(PAGE) {
        match read(page, offset) {
            Ok(()) => is_read = true,
            Err(error) => {
                page.fill(0);
                result = Err(error);
            }
        }
        offset += PAGE as u64;
    }
    if is_read { Ok(()) } else { result }
}

/// The file that one writer at a time holds a lock on.
pub const LOCK: &str = "lock";

impl Disk {
    /// A folder that is made when it is first written to.
    pub fn new(folder: &Path) -> Self {
        Disk {
            folder: folder.to_path_buf(),
            read_only: false,
            open: Mutex::default(),
        }
    }

    /// A folder that somebody else may be writing to.
    pub fn read_only(folder: &Path) -> Self {
        Disk {
            read_only: true,
            ..Disk::new(folder)
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn file(&self, name: &str, create: bool) -> io::Result<Arc<File>> {
        let mut open = self.open.lock();
        if let Some(file) = open.files.get(name) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(create)
                .truncate(false)
                .mode(0o600)
                .open(self.path(name))?,
        );
        open.files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

fn sync_parent(folder: &Path) -> io::Result<()> {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

impl Storage for Disk {
    fn prepare(&self) -> io::Result<()> {
        if self.read_only {
            return fs::metadata(&self.folder).map(drop);
        }
        let mut open = self.open.lock();
        if let Some(lock) = &open.lock {
            if lock.metadata()?.nlink() > 0 {
                return Ok(());
            }
            // Somebody has removed the folder: what is written to files in it would be lost.
            *open = Open::default();
        }
        match fs::create_dir(&self.folder) {
            // A power cut must not take the folder with all that is in it.
            Ok(()) => sync_parent(&self.folder)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path(LOCK))?;
        match lock.try_lock() {
            Ok(()) => open.lock = Some(lock),
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Whoever writes may remove files while a reader looks.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(name))?;
        let there = file.metadata()?.len().saturating_sub(offset);
        let mut bytes = vec![0; length.min(usize::try_from(there).unwrap_or(usize::MAX))];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn salvage(&self, name: &str, length: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(name))?;
        let mut bytes = vec![0; length];
        read_pages(&mut bytes, |page, offset| file.read_exact_at(page, offset))?;
        Ok(bytes)
    }

    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(name, at == 0)?;
        if at == 0 {
            // It may be there, from a try that failed.
            file.set_len(0)?;
        }
        file.write_all_at(bytes, at)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name, false)?.sync_data()
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        if self.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let file = self.file(name, false)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let temporary = format!("{name}.new");
        self.append(&temporary, 0, bytes)?;
        self.truncate(&temporary, bytes.len() as u64)?;
        fs::rename(self.path(&temporary), self.path(name))?;
        self.close(&temporary);
        self.close(name);
        self.sync_folder()
    }

    fn close(&self, name: &str) {
        self.open.lock().files.remove(name);
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.close(name);
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn release(&self) {
        *self.open.lock() = Open::default();
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn free(&self) -> Option<u64> {
        let figures = rustix::fs::statvfs(&self.folder).ok()?;
        Some(figures.f_bavail.saturating_mul(figures.f_frsize))
    }
}

/// Files in memory.
#[derive(Default)]
pub struct Memory {
    files: Mutex<HashMap<String, Vec<u8>>>,
}

impl Storage for Memory {
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let files = self.files.lock();
        Ok(files
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
            .collect())
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let files = self.files.lock();
        let bytes = files.get(name).ok_or(ErrorKind::NotFound)?;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(bytes.get(start..end).unwrap_or_default().to_vec())
    }

    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.entry(name.to_owned()).or_default();
        file.truncate(usize::try_from(at).unwrap_or(usize::MAX));
        // Doubling would take up to twice what is in it.
        file.reserve_exact(bytes.len().max(file.len() / 8));
        file.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        if let Some(file) = self.files.lock().get_mut(name) {
            file.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files.lock().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().remove(name);
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        None
    }

    fn is_memory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worn_out_pages_cost_themselves_and_no_more() {
        let on_disk: Vec<u8> = (0..=u8::MAX).cycle().take(3 * PAGE + 100).collect();
        let read = |lost: &[u64]| {
            let mut bytes = vec![0xff; on_disk.len()];
            let result = read_pages(&mut bytes, |page, offset| {
                if lost.contains(&(offset / PAGE as u64)) {
                    page[0] = 1; // of a page that cannot be read some may be there
                    return Err(io::Error::other("input/output error"));
                }
                let start = usize::try_from(offset).unwrap();
                page.copy_from_slice(&on_disk[start..start + page.len()]);
                Ok(())
            });
            result.map(|()| bytes)
        };
        assert_eq!(read(&[]).unwrap(), on_disk);
        let mut expected = on_disk.clone();
        expected[PAGE..2 * PAGE].fill(0);
        expected[3 * PAGE..].fill(0);
        assert_eq!(read(&[1, 3]).unwrap(), expected);
        assert!(read(&[0, 1, 2, 3]).is_err());
    }
}
