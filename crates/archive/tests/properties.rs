//! What must hold for any input: nothing panics, what was written is read back, and how the bytes arrive does not matter.

use archive::decompress::{Compression, Decompressor, Limits as PlainLimits};
use archive::{Entry, Header, Kind, Limits, Reader, Time, Writer};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{BufRead, BufReader, Read};

fn limits() -> Limits {
    Limits { header_bytes: 4096, headers: 4, sparse_segments: 50, entries: 100 }
}

/// All members with their data, or the error's text.
fn read_all(source: impl BufRead) -> (Vec<(Entry, Vec<u8>)>, Option<String>) {
    let mut reader = Reader::new(source, limits());
    let mut members = Vec::new();
    loop {
        match reader.next() {
            Ok(None) => return (members, None),
            Err(error) => {
                // An error is the end.
                assert!(matches!(reader.next(), Ok(None)) && matches!(reader.data(), Ok(None)));
                return (members, Some(error.to_string()));
            }
            Ok(Some(entry)) => {
                let mut data = Vec::new();
                let mut end = 0;
                loop {
                    match reader.data() {
                        Ok(None) => break,
                        Err(error) => {
                            members.push((entry, data));
                            return (members, Some(error.to_string()));
                        }
                        Ok(Some((offset, bytes))) => {
                            assert!(offset >= end && !bytes.is_empty());
                            end = offset + bytes.len() as u64;
                            assert!(end <= entry.size);
                            data.extend_from_slice(bytes);
                        }
                    }
                }
                assert!(!entry.path.contains(&0) && !entry.link.contains(&0));
                assert!(entry.mode <= 0o7777);
                members.push((entry, data));
            }
        }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Regular),
        1 => Just(Kind::HardLink),
        1 => Just(Kind::Symlink),
        1 => Just(Kind::Directory),
        1 => Just(Kind::Fifo),
        1 => (0..0o7_777_777_u32, 0..0o7_777_777_u32).prop_map(|(major, minor)| Kind::Character { major, minor }),
        1 => (0..0o7_777_777_u32, 0..0o7_777_777_u32).prop_map(|(major, minor)| Kind::Block { major, minor }),
    ]
}

prop_compose! {
    fn members()(
        path in vec(1..=255_u8, 1..300),
        kind in kinds(),
        link in vec(1..=255_u8, 1..200),
        data in vec(any::<u8>(), 0..2000),
        mode in 0..=0o7777_u32,
        ids in prop_oneof![Just((0, 0)), (0..=i64::MAX as u64, 0..=i64::MAX as u64)],
        seconds in prop_oneof![0..1_i64 << 34, -(1_i64 << 40)..1_i64 << 40],
        nanoseconds in prop_oneof![Just(0), 0..1_000_000_000_u32],
        xattrs in proptest::collection::btree_map("user\\.[a-z]{1,8}", vec(any::<u8>(), 0..40), 0..3),
    ) -> (Entry, Vec<u8>) {
        let mut path = path;
        if kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let is_link = matches!(kind, Kind::HardLink | Kind::Symlink);
        let data = if kind == Kind::Regular { data } else { Vec::new() };
        let entry = Entry {
            path,
            link: if is_link { link } else { Vec::new() },
            size: data.len() as u64,
            kind,
            mode,
            uid: ids.0,
            gid: ids.1,
            mtime: Time { seconds, nanoseconds },
            xattrs: xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
            sparse: false,
            offset: 0,
        };
        (entry, data)
    }
}

fn write(members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in members {
        let header = Header {
            path: &entry.path,
            kind: entry.kind.clone(),
            link: &entry.link,
            size: entry.size,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: &entry.xattrs,
        };
        writer.append_data(&header, &data[..]).unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_back(members in vec(members(), 0..6)) {
        let bytes = write(&members);
        let (read, error) = read_all(&bytes[..]);
        prop_assert_eq!(error, None);
        prop_assert_eq!(read.len(), members.len());
        for ((mut entry, data), (expected, expected_data)) in read.into_iter().zip(&members) {
            entry.offset = 0;
            prop_assert_eq!(&entry, expected);
            prop_assert_eq!(&data, expected_data);
        }
    }

    #[test]
    fn how_bytes_arrive_does_not_matter(members in vec(members(), 0..4), size in 1..2000_usize, cut in any::<prop::sample::Index>()) {
        let bytes = write(&members);
        let part = &bytes[..cut.index(bytes.len() + 1)];
        prop_assert_eq!(read_all(part), read_all(BufReader::with_capacity(size, part)));
    }

    /// A changed byte gives an error or another archive, never a panic.
    #[test]
    fn changed_archives_do_not_panic(
        members in vec(members(), 1..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        fix in any::<bool>(),
    ) {
        let mut bytes = write(&members);
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if fix {
            fix_sums(&mut bytes);
        }
        read_all(&bytes[..]);
    }

    #[test]
    fn noise_does_not_panic(mut bytes in vec(any::<u8>(), 0..4096), types in vec(prop::sample::select(&b"xgLKS0125V7\0"[..]), 8)) {
        for (block, kind) in bytes.chunks_exact_mut(512).zip(types) {
            block[156] = kind;
            block[257..265].copy_from_slice(b"ustar  \0");
            for field in [100..108, 108..116, 116..124, 136..148] {
                block[field].fill(b'0');
            }
            block[124..136].copy_from_slice(b"00000001000\0");
        }
        fix_sums(&mut bytes);
        read_all(&bytes[..]);
    }

    #[test]
    fn pax_records_do_not_panic(records in "[0-9]{1,3} (path|size|mtime|GNU.sparse.(map|major|minor|realsize|offset|numbytes|size)|LIBARCHIVE.xattr.a|uid)=[0-9,.%=-]{0,30}\n") {
        let mut bytes = write(&[]);
        bytes.clear();
        let mut block = [0_u8; 512];
        block[..4].copy_from_slice(b"name");
        block[124..136].copy_from_slice(format!("{:011o}\0", records.len()).as_bytes());
        block[156] = b'x';
        bytes.extend(block);
        bytes.extend(records.as_bytes());
        bytes.resize(1024, 0);
        block[156] = b'0';
        bytes.extend(block);
        bytes.extend([0; 2048]);
        fix_sums(&mut bytes);
        read_all(&bytes[..]);
    }

    #[test]
    fn compressed_noise_does_not_panic(
        magic in prop::sample::select(vec![&[0x1f, 0x8b, 8][..], &[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18], &[]]),
        bytes in vec(any::<u8>(), 0..2000),
    ) {
        let stream = [magic, &bytes].concat();
        if let Ok(mut plain) = Decompressor::new(&stream[..], PlainLimits { plain_bytes: 1 << 20, ..PlainLimits::default() }) {
            plain.read_to_end(&mut Vec::new()).ok();
        }
    }

    #[test]
    fn changed_gzip_is_never_taken_for_whole(data in vec(0..4_u8, 100..3000), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &data).unwrap();
        let mut stream = encoder.finish().unwrap();
        let at = at.index(stream.len());
        stream[at] ^= 1 << bit;
        if Compression::detect(&stream) == Compression::Gzip {
            let mut out = Vec::new();
            let result = Decompressor::new(&stream[..], PlainLimits::default()).unwrap().read_to_end(&mut out);
            // Header fields without meaning for us may change.
            prop_assert!(result.is_err() || out == data);
        }
    }
}

/// Makes the check sums right, so that a changed field is looked at.
fn fix_sums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// A sink that can be looked into after the recorder has gone.
#[derive(Clone, Default)]
struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads an archive with a recorder and plays the recipe back, taking contents from what was read; `None` if the archive is
/// refused.
fn there_and_back(archive: &[u8], piece: usize) -> Option<Vec<u8>> {
    use archive::recipe::{Player, Recorder, Step};
    let sink = Shared::default();
    let source = std::io::BufReader::with_capacity(piece, archive);
    let recorder = Recorder::new(sink.clone()).unwrap();
    let mut reader = archive::Reader::new(source, archive::Limits::default()).with_tape(Box::new(recorder));
    let mut contents: Vec<std::collections::BTreeMap<u64, u8>> = Vec::new();
    while let Some(entry) = reader.next().ok()? {
        let mut content = std::collections::BTreeMap::new();
        // Every other file is left to the reader to skip.
        while entry.path.len().is_multiple_of(2)
            && let Some((offset, bytes)) = reader.data().ok()?
        {
            content.extend(bytes.iter().enumerate().map(|(at, byte)| (offset + at as u64, *byte)));
        }
        if !content.is_empty() {
            contents.push(content);
        }
    }
    reader.finish_tape().ok()?;
    let recipe = sink.0.lock().unwrap().clone();
    let mut player = Player::new(&recipe[..]).unwrap();
    let (mut out, mut file, mut next) = (Vec::new(), None, 0);
    while let Some(step) = player.next().unwrap() {
        match step {
            Step::Literal(bytes) => out.extend(bytes),
            Step::File { .. } => {
                file = contents.get(next);
                next += 1;
            }
            Step::Data { offset, length, .. } => out.extend((offset..offset + length).map(|at| file.unwrap()[&at])),
        }
    }
    Some(out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a reader accepts comes back byte for byte, however the bytes arrived and whatever was damaged before.
    #[test]
    fn what_is_accepted_comes_back(
        names in proptest::collection::vec("[a-z]{1,130}", 0..6),
        sizes in proptest::collection::vec(0_usize..3000, 6),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        tail in proptest::collection::vec(any::<u8>(), 0..700),
        piece in 1_usize..2000,
    ) {
        let mut writer = archive::Writer::new(Vec::new());
        for (name, size) in names.iter().zip(&sizes) {
            let data: Vec<u8> = (0..*size).map(|at| (at % 251) as u8).collect();
            let header = archive::Header {
                path: name.as_bytes(),
                kind: archive::Kind::Regular,
                link: b"",
                size: data.len() as u64,
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: archive::Time { seconds: 5, nanoseconds: 7 },
                xattrs: &[],
            };
            writer.append_data(&header, &data[..]).unwrap();
        }
        let mut bytes = writer.finish().unwrap();
        for (place, value) in flips {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        bytes.extend(tail);
        if let Some(back) = there_and_back(&bytes, piece) {
            prop_assert!(back == bytes);
        }
    }

    /// A damaged recipe is an error or another recipe, and never a panic or an endless one.
    #[test]
    fn damaged_recipes_do_not_panic(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let framed = zstd::stream::encode_all(&[&b"dhow recipe 1\n"[..], &noise].concat()[..], 1).unwrap();
        for bytes in [&noise, &framed] {
            if let Ok(mut player) = archive::recipe::Player::new(&bytes[..]) {
                for _ in 0..1000 {
                    match player.next() {
                        Ok(Some(_)) => {}
                        _ => break,
                    }
                }
            }
        }
    }
}
