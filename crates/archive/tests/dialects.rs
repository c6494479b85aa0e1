//! Headers as programs of forty years write them, and the places where readers have disagreed.

use archive::{Entry, Kind, Limits, Reader, TarError, Time};
use std::io::Read;

struct Block([u8; 512]);

impl Block {
    fn new(path: &str, kind: u8, size: usize) -> Block {
        let mut block = Block([0; 512]);
        block
            .put(0, path)
            .put(100, "0000644\0")
            .put(108, "0000000\0")
            .put(116, "0000000\0")
            .put(124, &format!("{size:011o}\0"))
            .put(136, "14524613400\0");
        block.0[156] = kind;
        block
    }

    fn put(&mut self, at: usize, text: &str) -> &mut Block {
        self.bytes(at, text.as_bytes())
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) -> &mut Block {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn gnu(&mut self) -> &mut Block {
        self.put(257, "ustar  \0")
    }

    fn ustar(&mut self) -> &mut Block {
        self.put(257, "ustar\x0000")
    }

    fn sum(&self) -> Vec<u8> {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.to_vec()
    }
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

fn pax(records: &str) -> Vec<u8> {
    [Block::new("x", b'x', records.len()).ustar().sum(), padded(records.as_bytes())].concat()
}

fn first(parts: &[Vec<u8>]) -> Result<Entry, TarError> {
    let bytes = parts.concat();
    Reader::new(&bytes[..], Limits::default()).next().map(|entry| entry.expect("a member"))
}

#[test]
fn prefixes() {
    let entry = first(&[Block::new("name", b'0', 0).ustar().put(345, "some/prefix").sum()]).unwrap();
    assert_eq!(entry.path, b"some/prefix/name");
    let star =
        first(&[Block::new("name", b'0', 0).ustar().put(345, "star").put(476, "14524613400").put(508, "tar\0").sum()]);
    assert_eq!(star.unwrap().path, b"star/name");
    // v7 has no prefix, and GNU has times there.
    assert_eq!(first(&[Block::new("name", b'0', 0).put(345, "junk").sum()]).unwrap().path, b"name");
    let gnu = first(&[Block::new("name", b'0', 0).gnu().put(345, "14524613400\0").sum()]);
    assert_eq!(gnu.unwrap().path, b"name");
    // What Docker 1.12 wrote.
    let docker = first(&[Block::new("name", b'0', 0).gnu().put(345, "usr/share/doc").sum()]);
    assert_eq!(docker.unwrap().path, b"usr/share/doc/name");
    // A name of exactly 100 bytes has no NUL.
    let name = "n".repeat(100);
    assert_eq!(first(&[Block::new(&name, b'0', 0).ustar().sum()]).unwrap().path, name.as_bytes());
}

#[test]
fn types() {
    let kind = |path, byte| {
        first(&[Block::new(path, byte, 0).ustar().put(329, "0000010\0").put(337, "0000001\0").sum()]).unwrap().kind
    };
    assert_eq!(kind("f", 0), Kind::Regular);
    assert_eq!(kind("d/", 0), Kind::Directory);
    assert_eq!(kind("f/", b'0'), Kind::Regular);
    assert_eq!(kind("f", b'7'), Kind::Regular);
    assert_eq!(kind("f", b'4'), Kind::Block { major: 8, minor: 1 });
    assert_eq!(kind("f", b'D'), Kind::Unknown(b'D'));
    // Old writers put a size into headers of links and directories; no data follows.
    let bytes = [Block::new("d", b'5', 1000).ustar().sum(), Block::new("f", b'0', 3).sum(), padded(b"abc")].concat();
    let mut reader = Reader::new(&bytes[..], Limits::default());
    assert_eq!(reader.next().unwrap().unwrap().size, 0);
    assert_eq!(reader.next().unwrap().unwrap().path, b"f");
    let mut text = String::new();
    reader.body(3).read_to_string(&mut text).unwrap();
    assert_eq!(text, "abc");
}

#[test]
fn numbers() {
    let mut block = Block::new("f", b'0', 0);
    block.gnu().bytes(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]).bytes(136, &[0xff; 12]);
    let entry = first(&[block.sum()]).unwrap();
    assert_eq!((entry.uid, entry.mtime), (0xffff_fffe, Time { seconds: -1, nanoseconds: 0 }));
    for (at, field) in [(100, "mode"), (108, "owner"), (116, "group"), (124, "size"), (136, "time")] {
        let error = first(&[Block::new("f", b'0', 0).put(at, "12x").sum()]).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid tar header at byte 0: {field}"));
    }
    // Negative sizes and owners.
    for at in [108, 124] {
        assert!(first(&[Block::new("f", b'0', 0).gnu().bytes(at, &[0xff; 8]).sum()]).is_err());
    }
    // A sum of signed bytes.
    let mut block = Block::new("f\u{e9}", b'0', 0).0;
    block[148..156].fill(b' ');
    let sum: i32 = block.iter().map(|&byte| i32::from(byte.cast_signed())).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(first(&[block.to_vec()]).unwrap().path, "f\u{e9}".as_bytes());
}

#[test]
fn extended_headers_in_any_combination() {
    let long = "l".repeat(300);
    let gnu_long =
        || [Block::new("././@LongLink", b'L', 301).gnu().sum(), padded(format!("{long}\0").as_bytes())].concat();
    assert_eq!(first(&[gnu_long(), Block::new("f", b'0', 0).gnu().sum()]).unwrap().path, long.as_bytes());
    // With a pax path beside it, GNU's wins, in both orders.
    for parts in [[pax("12 path=pax\n"), gnu_long()], [gnu_long(), pax("12 path=pax\n")]] {
        assert_eq!(first(&[parts.concat(), Block::new("f", b'0', 0).sum()]).unwrap().path, long.as_bytes());
    }
    // The second extended header replaces the first; an empty value restores the header's.
    let entry = first(&[pax("12 path=pax\n"), pax("9 uid=17\n"), Block::new("f", b'0', 0).sum()]).unwrap();
    assert_eq!((&entry.path[..], entry.uid), (&b"f"[..], 17));
    assert_eq!(first(&[pax("9 path=a\n8 path=\n"), Block::new("f", b'0', 0).sum()]).unwrap().path, b"f");
    // A global header has no effect, but must be one.
    let global =
        |records: &str| [Block::new("g", b'g', records.len()).ustar().sum(), padded(records.as_bytes())].concat();
    let entry = first(&[global("12 path=all\n9 size=9\n"), Block::new("f", b'0', 0).sum()]).unwrap();
    assert_eq!((&entry.path[..], entry.size), (&b"f"[..], 0));
    assert!(first(&[global("nonsense"), Block::new("f", b'0', 0).sum()]).is_err());
    // The size of an extended header is its own, whatever records came before it (CVE-2025-62518).
    let entry = first(&[
        pax("11 size=512\n".replace("11", "12").as_str()),
        gnu_long(),
        Block::new("f", b'0', 0).sum(),
        vec![1; 512],
    ]);
    let entry = entry.unwrap();
    assert_eq!((entry.size, entry.path.len()), (512, 300));
}

#[test]
fn ends() {
    let member = || Block::new("f", b'0', 0).sum();
    let read = |parts: &[Vec<u8>]| {
        let bytes = parts.concat();
        let mut reader = Reader::new(&bytes[..], Limits::default());
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Ok((count, reader.has_end_mark())),
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    assert_eq!(read(&[member(), vec![0; 1024], b"whatever".to_vec()]), Ok((1, true)));
    assert_eq!(read(&[member()]), Ok((1, false)));
    assert_eq!(read(&[]), Ok((0, false)));
    assert_eq!(read(&[member(), vec![0; 512]]), Ok((1, false)));
    assert_eq!(
        read(&[member(), vec![0; 512], member()]),
        Err("invalid tar header at byte 1024: one zero block before it".into())
    );
    assert_eq!(
        read(&[member(), vec![0; 700]]),
        Err("the archive is truncated: it ends at byte 1212, inside a header".into())
    );
    assert_eq!(
        read(&[pax("9 uid=17\n")]),
        Err("the archive is truncated: it ends at byte 1024, inside an extended header".into())
    );
    // Data without its padding.
    assert_eq!(
        read(&[Block::new("f", b'0', 3).sum(), b"abc".to_vec()]),
        Err("the archive is truncated: it ends at byte 515, inside a file".into())
    );
}

#[test]
fn limits() {
    let limits = Limits { header_bytes: 1000, headers: 2, sparse_segments: 3, entries: 2 };
    let read = |parts: &[Vec<u8>]| {
        let bytes = parts.concat();
        let mut reader = Reader::new(&bytes[..], limits.clone());
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => return String::new(),
                Err(error) => return error.to_string(),
            }
        }
    };
    let member = || Block::new("f", b'0', 0).sum();
    // Announced only: nothing of that size is allocated or read.
    assert!(read(&[Block::new("x", b'x', 0o7_777_777_777).ustar().sum()]).contains("bytes in an extended header"));
    assert!(read(&[Block::new("x", b'L', 1001).sum()]).contains("bytes in an extended header"));
    assert!(read(&[pax(""), pax(""), pax(""), member()]).contains("extended headers in a row"));
    assert!(read(&[member(), member(), member()]).contains("members"));
    let map = "GNU.sparse.map=0,1,2,1,4,1,6,1";
    let records = format!("{} {map}\n", map.len() + 4);
    assert!(read(&[pax(&records), member()]).contains("too many segments"));
    assert!(
        read(&[
            pax("22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n26 GNU.sparse.realsize=99\n"),
            Block::new("f", b'0', 512).sum(),
            padded(b"4\n")
        ])
        .contains("segments")
    );
}

#[test]
fn sparse_maps_that_lie() {
    let gnu = |pairs: &[(u64, u64)], real: u64, stored: usize| {
        let mut block = Block::new("f", b'S', stored);
        block.gnu().put(483, &format!("{real:011o}\0"));
        for (index, (offset, length)) in pairs.iter().enumerate() {
            block.put(386 + 24 * index, &format!("{offset:011o}\0{length:011o}\0"));
        }
        first(&[block.sum(), vec![1; 1024]])
    };
    assert_eq!(gnu(&[(0, 10), (100, 10), (200, 0)], 200, 20).unwrap().size, 200);
    for (pairs, real, stored) in [
        (&[(0, 10)][..], 5, 10),
        (&[(0, 10), (5, 10)], 100, 20),
        (&[(50, 10), (0, 10)], 100, 20),
        (&[(0, 10)], 100, 11),
        (&[(0, 10)], 100, 9),
        (&[(0, 0o7_777_777_777), (1, 1)], 100, 9),
        (&[], 100, 9),
    ] {
        assert!(gnu(pairs, real, stored).unwrap_err().to_string().contains("sparse map"), "{pairs:?}");
    }
    // Holes read as zeros.
    let mut block = Block::new("f", b'S', 4);
    block.gnu().put(483, "00000000012\0").put(386, "00000000003\x0000000000004\0");
    let bytes = [block.sum(), padded(b"data")].concat();
    let mut reader = Reader::new(&bytes[..], Limits::default());
    let entry = reader.next().unwrap().unwrap();
    let mut out = Vec::new();
    reader.body(entry.size).read_to_end(&mut out).unwrap();
    assert_eq!(out, b"\0\0\0data\0\0\0");
    assert!(reader.next().unwrap().is_none());
}
