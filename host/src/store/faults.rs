//! A disk in memory that fails when told to, and loses power.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

/// What happens at one operation that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// ENOSPC; nothing was done.
    Full,
    /// EIO; nothing was done.
    Broken,
    /// Half of a write is done, then ENOSPC.
    Short,
    /// Half of a write is done, and then the power is gone: nothing works until [`Disk::restart`].
    PowerCut,
    /// A sync fails, and what it was to keep is lost, as Linux does it.
    LostSync,
}

impl Fault {
    pub(crate) const ALL: [Fault; 5] =
        [Fault::Full, Fault::Broken, Fault::Short, Fault::PowerCut, Fault::LostSync];
}

/// One file. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    /// What a power cut leaves for certain.
    durable: Vec<u8>,
    /// What is read.
    current: Vec<u8>,
    /// What changed since the last sync.
    unsynced: Vec<Change>,
    changes: usize,
    fault: Option<(usize, Fault)>,
    fired: bool,
    off: bool,
    aside: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Disk {
    /// Lets the operation fail that is the `n`th from now, counted from 0.
    pub(crate) fn fail(&self, n: usize, fault: Fault) {
        let mut state = self.state();
        (state.fault, state.fired) = (Some((state.changes + n, fault)), false);
    }

    /// Lets every operation fail from now on, or none.
    pub(crate) fn set_off(&self, off: bool) {
        let mut state = self.state();
        (state.off, state.fault) = (off, None);
    }

    pub(crate) fn fired(&self) -> bool {
        self.state().fired
    }

    /// The disk after a power cut: each change that was not synced is there, or half there, or not, by `chance`.
    pub(crate) fn restart(&self, chance: &mut impl FnMut() -> u8) -> Disk {
        let old = self.state();
        let mut content = old.durable.clone();
        for change in &old.unsynced {
            match chance() % 3 {
                0 => {}
                1 => change.half().apply(&mut content),
                _ => change.apply(&mut content),
            }
        }
        Self::of(content, &old)
    }

    /// The disk as the next process finds it when only this one ended.
    pub(crate) fn reopened(&self) -> Disk {
        let old = self.state();
        Self::of(old.current.clone(), &old)
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.state().current.clone()
    }

    pub(crate) fn set_content(&self, content: Vec<u8>) {
        let mut state = self.state();
        state.unsynced.clear();
        (state.durable, state.current) = (content.clone(), content);
    }

    pub(crate) fn aside(&self) -> usize {
        self.state().aside.len()
    }

    fn of(content: Vec<u8>, old: &State) -> Disk {
        let (durable, aside) = (content.clone(), old.aside.clone());
        Disk(Arc::new(Mutex::new(State { durable, current: content, aside, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state();
        match state.fault()? {
            None => {}
            Some(Fault::Full) => return Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Broken | Fault::LostSync) => return Err(io::Error::other("EIO")),
            Some(fault @ (Fault::Short | Fault::PowerCut)) => {
                state.off = fault == Fault::PowerCut;
                state.apply(change.half());
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        state.apply(change);
        Ok(())
    }
}

impl State {
    fn fault(&mut self) -> io::Result<Option<Fault>> {
        if self.off {
            return Err(io::Error::other("EIO"));
        }
        let due = self.fault.take_if(|(at, _)| *at == self.changes).map(|(_, fault)| fault);
        self.changes += 1;
        self.fired |= due.is_some();
        Ok(due)
    }

    fn apply(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }
}

impl Change {
    fn half(&self) -> Change {
        match self {
            Change::Write(at, data) => Change::Write(*at, data[..data.len() / 2].to_vec()),
            Change::Len(len) => Change::Len(*len),
        }
    }

    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Len(len) => content.resize(*len, 0),
            Change::Write(at, data) => {
                let end = at + data.len();
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(data);
            }
        }
    }
}

impl super::file::Disk for Disk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        if self.state().off {
            return Err(io::Error::other("EIO"));
        }
        Ok(Box::new(self.clone()))
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let mut state = self.state();
        let content = std::mem::take(&mut state.current);
        state.durable.clear();
        state.unsynced.clear();
        state.aside.push(content);
        Ok(PathBuf::from(format!("damaged-{}", state.aside.len())))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if state.off {
            return Err(io::Error::other("EIO"));
        }
        let from = state.current.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        match state.fault()? {
            None => {
                state.unsynced.clear();
                state.durable = state.current.clone();
                Ok(())
            }
            Some(Fault::LostSync) => {
                state.unsynced.clear();
                state.current = state.durable.clone();
                Err(io::Error::other("EIO"))
            }
            Some(fault) => {
                state.off = fault == Fault::PowerCut;
                Err(io::Error::other("EIO"))
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }
}
