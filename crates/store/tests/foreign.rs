//! Archives made by other programs: the tree must be the one that the program itself unpacks.

#![allow(clippy::print_stdout)] // SKIP lines.

mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Scratch, root, tree, view};

fn run(program: &str, arguments: &[&OsStr], directory: &Path) -> bool {
    let output = match Command::new(program).args(arguments).current_dir(directory).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIP: {program} is not installed");
            return false;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

fn shell(script: &str, directory: &Path) {
    assert!(run("sh", &["-euc".as_ref(), script.as_ref()], directory));
}

/// A tree with everything in it that the programs can store.
fn source(scratch: &Scratch) -> PathBuf {
    let path = scratch.path().join("source");
    std::fs::create_dir(&path).unwrap();
    shell(
        r#"
        umask 022
        mkdir -p usr/bin etc/deep/er var/spool dev
        echo root > etc/passwd; chmod 640 etc/passwd; chown 12345:54321 etc/passwd
        printf 'elf' > usr/bin/su; chmod 4755 usr/bin/su
        printf 'elf' > usr/bin/wall; chown 0:5 usr/bin/wall; chmod 2755 usr/bin/wall
        ln usr/bin/su usr/bin/sudo; ln usr/bin/su etc/su
        ln -s ../etc/passwd usr/link; ln -s /absolute/$(printf 'x%.0s' $(seq 200)) usr/longlink
        chown -h 3:4 usr/link
        mkdir -m 1777 tmp; mkdir -m 2775 var/local; chown 0:50 var/local; mkdir -m 700 root
        echo inside > var/local/file
        mkfifo -m 622 var/pipe
        mknod -m 666 dev/null c 1 3; mknod -m 660 dev/sda b 8 0; chown 0:6 dev/sda
        d=$(printf 'long-directory-name-%.0s' 1 2 3 4 5 6)
        mkdir -p "$d/$d/$d"; echo long > "$d/$d/$d/$d"
        echo umlaut > 'ünï ☃ name'; printf 'x' > 'line
feed'
        truncate -s 3M sparse; printf middle | dd of=sparse bs=1 seek=1500000 conv=notrunc 2>/dev/null
        truncate -s 10M holes
        : > empty
        seq 100000 > numbers
        touch -h -d '2001-02-03 04:05:06.789 UTC' etc/passwd usr/link var/pipe numbers
        touch -d '2040-01-01 UTC' etc; touch -d '1960-01-01 UTC' root
        touch -d '2010-10-10 10:10:10 UTC' usr var . tmp
        "#,
        &path,
    );
    path
}

fn with_attributes(source: &Path) {
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(source.join(name), key, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("usr/bin/su", "user.comment", b"bytes \0 and = and\n");
    set("usr/bin/wall", "security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    set("etc", "user.on.directory", b"");
    set("usr/link", "trusted.on.link", b"link");
}

/// Packs with `pack`, unpacks with `unpack`, imports, and compares; `adjust` removes what the program cannot store.
fn compare(pack: (&str, &[&str]), unpack: (&str, &[&str]), attributes: bool) {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    if attributes {
        with_attributes(&source);
    }
    let archive = scratch.path().join("archive.tar");
    let reference = scratch.path().join("reference");
    std::fs::create_dir(&reference).unwrap();
    let arguments = |list: &[&str]| -> Vec<std::ffi::OsString> {
        list.iter().map(|word| word.replace("ARCHIVE", archive.to_str().unwrap()).into()).collect()
    };
    let packing = arguments(pack.1);
    if !run(pack.0, &packing.iter().map(|word| word.as_os_str()).collect::<Vec<_>>(), &source) {
        return;
    }
    let unpacking = arguments(unpack.1);
    run(unpack.0, &unpacking.iter().map(|word| word.as_os_str()).collect::<Vec<_>>(), &reference);
    let layer = scratch.store.layers().import(None, std::fs::File::open(&archive).unwrap()).unwrap();
    let (ours, theirs) = (tree(&view(&layer)), tree(&reference));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    assert!(ours.len() > 30, "{}", ours.len());
    for (name, seen) in &ours {
        let mut expected = theirs[name].clone();
        // Not a claim of the archive: how the file system lays a file out.
        expected.sparse = seen.sparse;
        // bsdtar does not touch the directory that it was started in.
        if name == "." && unpack.0 == "bsdtar" {
            expected.mtime = seen.mtime;
        }
        let (mut a, mut b) = (seen.clone(), expected);
        a.content.truncate(100);
        b.content.truncate(100);
        assert_eq!(a, b, "{name}");
        assert!(seen.content == theirs[name].content, "{name}");
    }
    assert!(layer.warnings.is_empty(), "{:?}", layer.warnings);
}

const GNU: (&str, &[&str]) =
    ("tar", &["-xpf", "ARCHIVE", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner"]);

#[test]
fn gnu_tar_gnu_format_with_sparse_files() {
    compare(("tar", &["-cf", "ARCHIVE", "--format=gnu", "--sparse", "--numeric-owner", "."]), GNU, false);
}

#[test]
fn gnu_tar_pax_with_attributes() {
    compare(
        ("tar", &["-cf", "ARCHIVE", "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "."]),
        GNU,
        true,
    );
}

#[test]
fn gnu_tar_sparse_formats_of_pax() {
    for version in ["0.0", "0.1", "1.0"] {
        let option = format!("--sparse-version={version}");
        compare(
            ("tar", &["-cf", "ARCHIVE", "--format=posix", "--sparse", &option, "--numeric-owner", "."]),
            GNU,
            false,
        );
    }
}

#[test]
fn gnu_tar_compressed() {
    compare(("tar", &["-czf", "ARCHIVE", "--numeric-owner", "."]), GNU, false);
    compare(("tar", &["-cf", "ARCHIVE", "--zstd", "--numeric-owner", "."]), GNU, false);
}

#[test]
fn bsdtar_pax_with_attributes() {
    compare(
        ("bsdtar", &["-cf", "ARCHIVE", "--format=pax", "--xattrs", "."]),
        ("bsdtar", &["-xpf", "ARCHIVE", "--xattrs", "--same-owner", "--numeric-owner"]),
        true,
    );
}

#[test]
fn bsdtar_gnu_format() {
    compare(
        ("bsdtar", &["-cf", "ARCHIVE", "--format=gnutar", "--no-read-sparse", "."]),
        ("bsdtar", &["-xpf", "ARCHIVE", "--same-owner", "--numeric-owner"]),
        false,
    );
}

#[test]
fn python_tarfile() {
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        let pack =
            format!("import tarfile; t = tarfile.open('ARCHIVE', 'w', format=tarfile.{format}); t.add('.'); t.close()");
        compare(
            ("python3", &["-c", &pack]),
            // Python unpacks whole seconds only in one of the formats, and set-id bits never: GNU tar is the judge.
            GNU,
            false,
        );
    }
}

#[test]
fn busybox_tar() {
    compare(
        ("busybox", &["tar", "-cf", "ARCHIVE", "--numeric-owner", "."]),
        ("tar", &["-xpf", "ARCHIVE", "--numeric-owner", "--same-owner"]),
        false,
    );
}

/// Holes stay holes.
#[test]
fn sparse_files_take_no_room() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    for options in ["--format=gnu", "--format=posix --sparse-version=1.0"] {
        shell(&format!("tar -cf ../a.tar --sparse {options} sparse holes"), &source);
        let path = scratch.unpack(&std::fs::read(scratch.path().join("a.tar")).unwrap());
        let seen = tree(&path);
        // An image's inodes say what their files would take without holes; what they take is the image's matter.
        let roomy = |name: &str| !seen[name].sparse && support::used(scratch.store.path()) > 2 << 20;
        assert!(!roomy("sparse") && !roomy("holes"), "{options}");
        assert_eq!((seen["sparse"].content.len(), seen["holes"].content.len()), (3 << 20, 10 << 20));
    }
    // A map of more segments than fit in the header.
    shell(
        "truncate -s 8M many; for n in $(seq 0 99); do printf $n | dd of=many bs=1 seek=$((n * 65536)) conv=notrunc 2>/dev/null; done",
        &source,
    );
    for options in ["--format=gnu", "--format=posix --sparse-version=0.1", "--format=posix --sparse-version=1.0"] {
        shell(&format!("tar -cf ../a.tar --sparse {options} many"), &source);
        let path = scratch.unpack(&std::fs::read(scratch.path().join("a.tar")).unwrap());
        let seen = tree(&path);
        assert!(
            (seen["many"].sparse || support::used(scratch.store.path()) < 2 << 20)
                && seen["many"].content == std::fs::read(source.join("many")).unwrap()
        );
    }
}
