//! A disk that tears, reorders and fails writes, and at a crash loses what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::buffer::Storage;

/// Numbers that look random; the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// One of 0 … `sides` - 1.
    pub fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64, by Sebastiano Vigna
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) & 0xffff_ffff).unwrap() % sides.max(1)
    }
}

/// Bytes that are written together.
const PAGE: usize = 64;

/// One write that was not synced.
#[derive(Clone)]
struct Write {
    at: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Default)]
struct File {
    durable: Vec<u8>,
    content: Vec<u8>,
    unsynced: Vec<Write>,
    /// Its name is on the disk.
    is_listed: bool,
}

pub struct Disk {
    files: BTreeMap<String, File>,
    /// Names whose removal is not on the disk yet, with what they had.
    removed: BTreeMap<String, File>,
    pub dice: Dice,
    /// One of how many calls fails; 0 for none.
    pub fails_one_of: usize,
    /// How many bytes fit.
    pub capacity: usize,
    /// All calls that change something fail.
    pub is_broken: bool,
    /// Files that cannot be read.
    pub unreadable: BTreeSet<String>,
}

/// The disk, as several buffers one after the other have it.
#[derive(Clone)]
pub struct Faulty(pub Arc<Mutex<Disk>>);

impl Faulty {
    pub fn new(seed: u64) -> Self {
        Faulty(Arc::new(Mutex::new(Disk {
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            dice: Dice(seed),
            fails_one_of: 0,
            capacity: usize::MAX,
            is_broken: false,
            unreadable: BTreeSet::new(),
        })))
    }

    /// The power fails: of what was not synced some is there, torn and in any order.
    pub fn crash(&self) {
        let mut disk = self.0.lock();
        let disk = &mut *disk;
        let dice = &mut disk.dice;
        let mut files = BTreeMap::new();
        for (name, mut file) in std::mem::take(&mut disk.removed) {
            if dice.roll(2) == 0 {
                file.lose(dice);
                files.insert(name, file);
            }
        }
        for (name, mut file) in std::mem::take(&mut disk.files) {
            if file.is_listed || dice.roll(2) == 0 {
                file.lose(dice);
                files.insert(name, file);
            }
        }
        disk.files = files;
    }

    /// Names and contents.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.0.lock();
        let files = disk.files.iter();
        files
            .map(|(name, file)| (name.clone(), file.content.clone()))
            .collect()
    }

    /// A disk with these files.
    pub fn with(contents: BTreeMap<String, Vec<u8>>) -> Self {
        let faulty = Faulty::new(0);
        let files = contents.into_iter().map(|(name, content)| {
            let durable = content.clone();
            let file = File {
                durable,
                content,
                unsynced: Vec::new(),
                is_listed: true,
            };
            (name, file)
        });
        faulty.0.lock().files = files.collect();
        faulty
    }
}

impl File {
    /// Forgets what was not synced, or some of it.
    fn lose(&mut self, dice: &mut Dice) {
        let mut content = self.durable.clone();
        for write in self.unsynced.drain(..) {
            let length = write.bytes.len();
            let whole = match dice.roll(4) {
                0 => 0,
                1 => dice.roll(length + 1),
                _ => length,
            };
            // Pages reach the disk in any order, and what is before one may be a hole.
            let is_reordered = dice.roll(3) == 0;
            for (number, page) in write.bytes[..whole].chunks(PAGE).enumerate() {
                if is_reordered && dice.roll(2) == 0 {
                    continue;
                }
                let at = write.at + number * PAGE;
                content.resize(content.len().max(at + page.len()), 0);
                content[at..at + page.len()].copy_from_slice(page);
            }
        }
        self.durable.clone_from(&content);
        self.content = content;
        self.is_listed = true;
    }
}

impl Disk {
    fn may_fail(&mut self) -> io::Result<()> {
        let fails = self.fails_one_of > 0 && self.dice.roll(self.fails_one_of) == 0;
        if fails || self.is_broken {
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }

    fn used(&self) -> usize {
        self.files.values().map(|file| file.content.len()).sum()
    }

    fn find(&mut self, name: &str) -> io::Result<&mut File> {
        self.files.get_mut(name).ok_or(ErrorKind::NotFound.into())
    }
}

impl Storage for Faulty {
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let disk = self.0.lock();
        let files = disk.files.iter();
        Ok(files
            .map(|(name, file)| (name.clone(), file.content.len() as u64))
            .collect())
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut disk = self.0.lock();
        if disk.unreadable.contains(name) {
            return Err(io::Error::other("input/output error"));
        }
        let content = &disk.find(name)?.content;
        let start = usize::try_from(offset).unwrap().min(content.len());
        Ok(content[start..content.len().min(start.saturating_add(length))].to_vec())
    }

    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock();
        let failed = disk.may_fail();
        let room = disk.capacity.saturating_sub(disk.used());
        let fits = room >= bytes.len();
        // A write that fails may have written some of it all the same.
        let written = match (&failed, fits) {
            (Ok(()), true) => bytes.len(),
            _ => disk.dice.roll(bytes.len().min(room) + 1),
        };
        let file = disk.files.entry(name.to_owned()).or_default();
        let at = usize::try_from(at).unwrap();
        file.content.truncate(at);
        file.content.resize(at + written, 0);
        file.content[at..at + written].copy_from_slice(&bytes[..written]);
        file.unsynced.push(Write {
            at,
            bytes: bytes[..written].to_vec(),
        });
        failed?;
        if fits {
            Ok(())
        } else {
            Err(ErrorKind::StorageFull.into())
        }
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.may_fail()?;
        let file = disk.find(name)?;
        file.durable.clone_from(&file.content);
        file.unsynced.clear();
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.may_fail()?;
        disk.removed.clear();
        for file in disk.files.values_mut() {
            file.is_listed = true;
        }
        Ok(())
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.may_fail()?;
        let file = disk.find(name)?;
        file.content.truncate(usize::try_from(length).unwrap());
        file.durable.clone_from(&file.content);
        file.unsynced.clear();
        Ok(())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock();
        if disk.capacity.saturating_sub(disk.used()) < bytes.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        let failed = disk.may_fail();
        // It may be the last step that fails, when all is done.
        if failed.is_ok() || disk.dice.roll(2) == 0 {
            let content = bytes.to_vec();
            let durable = content.clone();
            let unsynced = Vec::new();
            let is_listed = true;
            let file = File {
                durable,
                content,
                unsynced,
                is_listed,
            };
            disk.files.insert(name.to_owned(), file);
        }
        failed
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.may_fail()?;
        if let Some(file) = disk.files.remove(name) {
            disk.removed.insert(name.to_owned(), file);
        }
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        None
    }
}
