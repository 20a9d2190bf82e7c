use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use data_encoding::BASE64;

use super::*;

fn keypair(seed: u8) -> Keypair {
    Keypair::from_ed25519_seed([seed; 32])
}

fn id(result: Result<Keypair, form::Error>) -> Result<String, form::Error> {
    result.map(|keypair| keypair.peer_id().to_string())
}

/// A seed that is not one byte over and over.
fn seed() -> [u8; 32] {
    std::array::from_fn(|n| 200 + n as u8)
}

#[test]
fn every_form_that_others_write() {
    let keypair = Keypair::from_ed25519_seed(seed());
    let protobuf = keypair.to_protobuf();
    let expected = Ok(keypair.peer_id().to_string());
    assert_eq!(id(form::read(&protobuf)), expected);
    assert_eq!(id(form::read(&seed())), expected, "the seed");
    assert_eq!(id(form::read(&protobuf[4..])), expected, "seed and public key");
    let text = BASE64.encode(&protobuf);
    for text in [
        text.clone(),
        format!("{text}\n"),
        format!("  {}\r\n", text.trim_end_matches('=')),
        format!(r#"{{"id":"12D3KooW","privKey":"{text}","pubKey":"CAES"}}"#),
        format!(r#"{{"API":{{}},"Identity":{{"PeerID":"12D3KooW","PrivKey":"{text}"}}}}"#),
    ] {
        assert_eq!(id(form::read(text.as_bytes())), expected, "{text}");
    }
}

#[test]
fn what_is_no_key() {
    let good = keypair(7).to_protobuf();
    let mut halves = good[4..].to_vec();
    halves[40] ^= 1;
    assert_eq!(
        id(form::read(&halves)),
        Err(DecodeError::Mismatch.into()),
        "the halves do not belong together"
    );
    assert_eq!(id(form::read(b"")), Err(form::Error::Empty));
    assert_eq!(id(form::read(&[0; 32])), Err(form::Error::Blank(32)), "what a torn write leaves");
    assert_eq!(id(form::read(&[0; 68])), Err(form::Error::Blank(68)));
    assert_eq!(id(form::read(b"thirty-two letters are not a key")), Err(form::Error::NotBase64));
    assert_eq!(id(form::read(br#"{"id":"x"}"#)), Err(form::Error::NoPrivKey));
    assert_eq!(id(form::read(b"{ nothing")), Err(form::Error::NoPrivKey));
    for len in 1..good.len() {
        assert!(form::read(&good[..len]).is_err() || len == 32 || len == 64, "{len}");
    }
    let long = |len| BASE64.encode(&vec![9; len]);
    assert_eq!(id(form::read(long(MAX_LEN).as_bytes())), Err(form::Error::TooLong));
    assert_eq!(id(form::read(&vec![b'\n'; MAX_LEN + 1])), Err(form::Error::TooLong));
}

/// A disk whose every change is a step that may fail, and that loses power. A name is there after a crash if its
/// directory was synced, or perhaps; content if the file was synced, else perhaps half of it.
#[derive(Default)]
struct Faulty {
    files: RefCell<BTreeMap<PathBuf, Content>>,
    durable: RefCell<BTreeMap<PathBuf, Content>>,
    step: Cell<usize>,
    fail_at: Cell<Option<(usize, bool)>>,
    failed: Cell<bool>,
}

#[derive(Clone, Default)]
struct Content {
    bytes: std::rc::Rc<RefCell<Vec<u8>>>,
    synced: std::rc::Rc<RefCell<Vec<u8>>>,
}

impl Faulty {
    fn with(path: &Path, bytes: &[u8]) -> Self {
        let this = Self::default();
        let content = Content {
            bytes: RefCell::new(bytes.to_vec()).into(),
            synced: RefCell::new(bytes.to_vec()).into(),
        };
        this.files.borrow_mut().insert(path.to_owned(), content);
        *this.durable.borrow_mut() = this.files.borrow().clone();
        this
    }

    /// The error of this step, if it is the one that fails; after a power cut every later one does, too.
    fn step(&self) -> io::Result<()> {
        let step = self.step.replace(self.step.get() + 1);
        match self.fail_at.get() {
            Some((at, power_cut)) if step == at || (power_cut && step > at) => {
                self.failed.set(true);
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// The file at a path as it may be found after a power cut.
    fn after_crash(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
        let (durable, files) = (self.durable.borrow(), self.files.borrow());
        let mut found = Vec::new();
        for names in [&durable, &files] {
            match names.get(path) {
                None => found.push(None),
                Some(content) => {
                    found.push(Some(content.synced.borrow().clone()));
                    if *content.synced.borrow() != *content.bytes.borrow() {
                        found.push(Some(content.bytes.borrow().clone()));
                    }
                }
            }
        }
        found
    }
}

impl Disk for Faulty {
    type File = Content;

    fn read(&self, path: &Path, max: usize) -> io::Result<Looked> {
        Ok(match self.files.borrow().get(path) {
            None => Looked::Missing,
            Some(content) => {
                let bytes = content.bytes.borrow().iter().copied().take(max).collect::<Vec<_>>().into();
                Looked::File { mode: 0o600, bytes }
            }
        })
    }

    fn create(&self, path: &Path) -> io::Result<Content> {
        self.step()?;
        let content = Content::default();
        self.files.borrow_mut().insert(path.to_owned(), content.clone());
        Ok(content)
    }

    fn write(&self, file: &mut Content, bytes: &[u8]) -> io::Result<()> {
        let failed = self.step();
        let len = if failed.is_ok() { bytes.len() } else { bytes.len() / 2 };
        file.bytes.borrow_mut().extend_from_slice(&bytes[..len]);
        failed
    }

    fn sync(&self, file: &mut Content) -> io::Result<()> {
        self.step()?;
        file.synced.borrow_mut().clone_from(&file.bytes.borrow());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let content = self.files.borrow_mut().remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.borrow_mut().insert(to.to_owned(), content);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let mut files = self.files.borrow_mut();
        if files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = files.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.files.borrow_mut().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        self.step()?;
        *self.durable.borrow_mut() = self.files.borrow().clone();
        Ok(())
    }
}

const PATH: &str = "node.key";

#[test]
fn at_every_step_of_replacing_it_there_is_the_old_key_or_the_new_one() {
    let (path, old, new) = (Path::new(PATH), keypair(1), keypair(2));
    for power_cut in [false, true] {
        for at in 0.. {
            let disk = Faulty::with(path, &old.to_protobuf());
            disk.fail_at.set(Some((at, power_cut)));
            let saved = save(&disk, path, &new);
            if !disk.failed.get() {
                saved.unwrap();
                break;
            }
            for found in disk.after_crash(path) {
                let found = found.unwrap_or_else(|| panic!("no file after step {at}"));
                assert!(found == *old.to_protobuf() || found == *new.to_protobuf(), "torn at step {at}");
            }
            let now = load(&disk, path).unwrap().unwrap().peer_id();
            assert!(now == new.peer_id() || (saved.is_err() && now == old.peer_id()), "step {at}");
        }
    }
}

#[test]
fn at_every_step_of_making_it_there_is_no_file_or_a_whole_one() {
    let (path, new) = (Path::new(PATH), keypair(2));
    for power_cut in [false, true] {
        for at in 0.. {
            let disk = Faulty::default();
            disk.fail_at.set(Some((at, power_cut)));
            let made = load_or_create(&disk, path, || new.clone());
            if !disk.failed.get() {
                made.unwrap();
                break;
            }
            for found in disk.after_crash(path).into_iter().flatten() {
                assert!(found == *new.to_protobuf(), "torn at step {at}");
            }
            // Once there is room, it is made.
            disk.fail_at.set(None);
            assert_eq!(load_or_create(&disk, path, || new.clone()).unwrap().peer_id(), new.peer_id());
        }
    }
}

#[test]
fn what_is_no_key_is_never_written_to() {
    let path = Path::new(PATH);
    for bytes in [&b""[..], b"remember the milk", &[0; 68], &keypair(1).to_protobuf()[..40]] {
        let disk = Faulty::with(path, bytes);
        let error = load_or_create(&disk, path, || keypair(2)).unwrap_err();
        assert!(error.is_not_a_key() && error.hint().is_some(), "{error}");
        assert_eq!(*disk.files.borrow()[path].bytes.borrow(), bytes);
        assert_eq!(disk.step.get(), 0, "nothing was done");
    }
}

#[test]
fn an_error_never_quotes_the_file() {
    let secret = b"swordfish swordfish swordfish";
    let error = load(&Faulty::with(Path::new(PATH), secret), Path::new(PATH)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("swordfish"));
}

#[cfg(unix)]
mod on_disk {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::testing::directory;

    #[test]
    fn made_once_for_its_owner_only_and_replaced_whole() {
        let directory = directory("key-file");
        let file = KeyFile::new(directory.join("node.key"));
        assert!(file.load().unwrap_err().to_string().contains("there is no"));
        let first = file.load_or_create().unwrap();
        let mode = |file: &KeyFile| fs::metadata(file.path()).unwrap().permissions().mode() & 0o777;
        assert_eq!((file.load_or_create().unwrap().peer_id(), mode(&file)), (first.peer_id(), 0o600));
        file.save(&keypair(3)).unwrap();
        assert_eq!((file.load().unwrap().peer_id(), mode(&file)), (keypair(3).peer_id(), 0o600));
        let names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["node.key"], "nothing else is left behind");
    }

    #[test]
    fn one_that_others_may_read_is_refused() {
        let file = KeyFile::new(directory("key-file-open").join("node.key"));
        file.load_or_create().unwrap();
        for (mode, fine) in [(0o400, true), (0o600, true), (0o640, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(file.load().is_ok(), fine, "{mode:o}");
        }
    }
}
