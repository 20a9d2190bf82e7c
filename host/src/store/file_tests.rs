use peerage_core::engine;
use rand::Rng as _;

use super::{
    super::faults::{self, Fault},
    *,
};

const TABLE: Table = Table("test");

/// Twenty rows of 700 bytes, so that a commit writes several pages.
fn batch(version: u8) -> Batch {
    let mut batch = Batch::default();
    for n in 0..20_u8 {
        batch.put(TABLE, &[n], &vec![version; 700]).unwrap();
    }
    batch
}

/// Which version the store holds; panics if it is a mixture.
fn version(store: &mut FileStore) -> Option<u8> {
    let rows = store.scan(TABLE, None, MAX_BATCH).unwrap();
    let version = rows.first().map(|(_, value)| value[0])?;
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|(_, value)| *value == vec![version; 700]), "a mixture");
    Some(version)
}

fn reopen(disk: faults::Disk) -> FileStore {
    let mut store = FileStore::on(disk.clone()).unwrap();
    assert_eq!((store.take_damage(), disk.aside()), (None, 0), "what a crash leaves is not damage");
    store
}

#[test]
fn at_every_write_every_fault_leaves_the_old_or_the_new_state() {
    let mut rng = engine::rng(1);
    let mut chance = move || rng.next_u32() as u8;
    let mut tried = 0;
    for fault in Fault::ALL {
        for k in 0.. {
            let disk = faults::Disk::default();
            let mut store = FileStore::on(disk.clone()).unwrap();
            store.write(&batch(1)).unwrap();
            disk.fail(k, fault);
            let written = store.write(&batch(2));
            if !disk.fired() {
                written.unwrap();
                break;
            }
            tried += 1;
            let allowed: &[_] = if written.is_ok() { &[Some(2)] } else { &[Some(1), Some(2)] };
            for _ in 0..4 {
                let found = version(&mut reopen(disk.restart(&mut chance)));
                assert!(allowed.contains(&found), "power cut after {fault:?} at {k}: {found:?}");
            }
            let found = version(&mut reopen(disk.reopened()));
            assert!(allowed.contains(&found), "reopened after {fault:?} at {k}: {found:?}");
            // The same store goes on once the cause is gone.
            disk.set_off(false);
            assert!(allowed.contains(&version(&mut store)), "went on after {fault:?} at {k}");
            store.write(&batch(3)).unwrap();
            assert_eq!(version(&mut store), Some(3));
            drop(store);
            assert_eq!(version(&mut reopen(disk.restart(&mut chance))), Some(3));
        }
    }
    assert!(tried >= 5 * 5, "{tried} places to fail");
}

#[test]
fn at_every_write_of_making_the_file_every_fault_leaves_an_empty_store() {
    let mut rng = engine::rng(2);
    let mut chance = move || rng.next_u32() as u8;
    for fault in Fault::ALL {
        for k in 0.. {
            let disk = faults::Disk::default();
            disk.fail(k, fault);
            let mut store = FileStore::on(disk.clone()).unwrap();
            if !disk.fired() {
                break;
            }
            for _ in 0..4 {
                let after = disk.restart(&mut chance);
                // A file whose making was cut may be none; then it is set aside, and there is an empty one.
                assert_eq!(version(&mut FileStore::on(after).unwrap()), None);
            }
            disk.set_off(false);
            store.write(&batch(1)).unwrap();
            assert_eq!(version(&mut store), Some(1), "{fault:?} at {k}");
        }
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_an_empty_one_takes_its_place() {
    let disk = faults::Disk::default();
    FileStore::on(disk.clone()).unwrap().write(&batch(1)).unwrap();
    let good = disk.content();
    let mut flipped = Vec::new();
    for at in (0..good.len()).step_by(good.len() / 64) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        flipped.push(bytes);
    }
    let others = [good[..good.len() / 2].to_vec(), b"remember the milk".to_vec(), vec![0; 9000]];
    let mut set_aside = 0;
    for bytes in flipped.into_iter().chain(others) {
        let disk = faults::Disk::default();
        disk.set_content(bytes);
        let mut store = FileStore::on(disk.clone()).unwrap();
        // Some bytes of the file mean nothing, or have a second copy.
        match store.take_damage() {
            Some(_) => {
                set_aside += 1;
                assert_eq!((version(&mut store), disk.aside()), (None, 1));
            }
            None => assert_eq!(version(&mut store), Some(1)),
        }
        store.write(&batch(2)).unwrap();
        assert_eq!(version(&mut store), Some(2));
    }
    assert!(set_aside > 3, "{set_aside}");
}

#[test]
fn a_full_disk_is_an_error_until_there_is_room_again() {
    let disk = faults::Disk::default();
    let mut store = FileStore::on(disk.clone()).unwrap();
    disk.set_off(true);
    for _ in 0..3 {
        assert!(matches!(store.write(&batch(1)), Err(StoreError::Io(_))));
        assert!(matches!(store.get(TABLE, b"x"), Err(StoreError::Io(_))));
    }
    disk.set_off(false);
    store.write(&batch(2)).unwrap();
    assert_eq!(version(&mut store), Some(2));
}

#[test]
fn a_node_starts_while_the_disk_is_away() {
    let disk = faults::Disk::default();
    disk.set_off(true);
    let mut store = FileStore::on(disk.clone()).unwrap();
    assert!(store.write(&batch(1)).is_err());
    disk.set_off(false);
    store.write(&batch(1)).unwrap();
}

#[test]
fn a_file_of_a_later_version_is_refused_and_left_alone() {
    let disk = faults::Disk::default();
    drop(FileStore::on(disk.clone()).unwrap());
    let database = Database::builder().create_with_backend(disk.clone()).unwrap();
    let writing = database.begin_write().unwrap();
    writing.open_table(META).unwrap().insert(SCHEMA_KEY, SCHEMA + 1).unwrap();
    writing.commit().unwrap();
    drop(database);
    assert!(matches!(FileStore::on(disk.clone()), Err(OpenError::Newer { found }) if found == SCHEMA + 1));
    assert_eq!(disk.aside(), 0);
}

#[test]
fn the_file_has_a_size_that_it_does_not_pass() {
    let capped = Capped(Box::new(faults::Disk::default()));
    assert_eq!(capped.set_len(MAX_FILE + 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(capped.set_len(4096).is_ok());
}

#[cfg(unix)]
mod on_disk {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::directory;

    #[test]
    fn its_owner_reads_it_and_one_process_uses_it() {
        let path = directory("store-owner").join("book");
        let mut store = FileStore::open(&path).unwrap();
        store.write(&batch(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(FileStore::open(&path), Err(OpenError::InUse)));
        drop(store);
        assert_eq!(version(&mut FileStore::open(&path).unwrap()), Some(1));
    }

    #[test]
    fn what_cannot_be_a_file_is_the_users_to_mend() {
        let directory = directory("store-nowhere");
        assert!(matches!(FileStore::open(directory.join("missing").join("book")), Err(OpenError::Io(_))));
        assert!(matches!(FileStore::open(&directory), Err(OpenError::Io(_))));
    }

    #[test]
    fn so_many_damaged_files_are_kept() {
        let directory = directory("store-damaged");
        let path = directory.join("book");
        for n in 1..=MAX_DAMAGED + 2 {
            fs::write(&path, format!("damaged {n}")).unwrap();
            let damage = FileStore::open(&path).unwrap().take_damage().unwrap();
            assert_eq!(damage.moved_to, damaged(&path, n.min(MAX_DAMAGED)));
            assert_eq!(fs::read_to_string(&damage.moved_to).unwrap(), format!("damaged {n}"));
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1 + MAX_DAMAGED as usize);
    }

    #[test]
    fn a_file_that_is_too_large_is_set_aside_unread() {
        let path = directory("store-large").join("book");
        // Sparse: it takes no room.
        fs::File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(FileStore::open(&path).unwrap().take_damage().is_some());
    }
}
