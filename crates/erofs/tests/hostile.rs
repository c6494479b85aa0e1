//! The reader against images that lie: an error or a value, never a panic, a loop or much memory.

use erofs::{Found, Image, Kind, Limits, Meta, Writer};
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;
use std::path::Path;

fn small(path: &Path) -> Vec<u8> {
    let meta = || Meta { mode: 0o755, attributes: vec![(b"user.a".to_vec(), b"b".to_vec())], ..Meta::default() };
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let mut writer = Writer::new(file, meta(), Limits::default());
    let inner = writer.directory(writer.root(), b"d", meta()).unwrap();
    for (name, size, holes) in [("small", 10, false), ("large", 9000, false), ("holes", 20_000, true)] {
        writer.begin_file(size, holes).unwrap();
        writer.write(0, &vec![7; size.min(9000) as usize]).unwrap();
        let node = writer.end_file(&meta()).unwrap();
        writer.link(inner, name.as_bytes(), node).unwrap();
    }
    let link = writer.symlink(&Meta::default(), b"target").unwrap();
    writer.link(inner, b"link", link).unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

/// Looks at everything that can be reached in a bounded number of steps.
fn walk(image: &Image, found: &Found, budget: &mut u32, depth: u32) {
    if *budget == 0 || depth > 20 {
        return;
    }
    *budget -= 1;
    let mut buffer = [0; 5000];
    for offset in [0, 4096, 1 << 40, u64::MAX] {
        image.read(found, offset, &mut buffer).ok();
    }
    image.attributes(found).ok();
    if found.kind == Kind::Directory {
        for entry in image.entries(found).unwrap_or_default() {
            if let Ok(inner) = image.inode(entry.inode) {
                walk(image, &inner, budget, depth + 1);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_no_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let base = tempfile::tempdir().unwrap();
        let mut bytes = small(&base.path().join("good"));
        // Without the bit that says that there is a checksum: what is behind it shall be reached.
        bytes[1032] = 0;
        for (at, value) in damage {
            let at = at.index(bytes.len());
            // The magic stays, or nothing is looked at.
            if !(1024..1040).contains(&at) {
                bytes[at] = value;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut file = tempfile::tempfile_in(base.path()).unwrap();
        file.write_all(&bytes).unwrap();
        if let Ok(image) = Image::open(file) && let Ok(root) = image.root() {
            walk(&image, &root, &mut 1000, 0);
        }
    }
}

#[test]
fn a_wrong_checksum_and_a_short_file_are_told() {
    let base = tempfile::tempdir().unwrap();
    let good = small(&base.path().join("good"));
    let open = |bytes: &[u8]| {
        let mut file = tempfile::tempfile_in(base.path()).unwrap();
        file.write_all(bytes).unwrap();
        Image::open(file).map(|image| image.inodes()).map_err(|error| error.to_string())
    };
    assert_eq!(open(&good), Ok(6));
    let mut other = good.clone();
    other[1200] ^= 1;
    assert_eq!(open(&other).unwrap_err(), "the EROFS image is damaged: the superblock's checksum");
    assert_eq!(open(&good[..good.len() - 1]).unwrap_err(), "the EROFS image is damaged: it is cut off");
    assert_eq!(open(&[0; 5000]).unwrap_err(), "the EROFS image is damaged: no superblock");
}
