//! Content-addressed files: manifests, configurations, and whatever else is kept as it came.

use crate::Store;
use crate::boot;
use crate::directory::{Directory, OPEN};
use crate::error::{During, StoreError, SystemError};
use crate::staging::StagedFile;
use oci::digest::{Algorithm, Digest, Hasher};
use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};

pub(crate) const NAME: &str = "blobs";

/// The blobs of a store.
#[derive(Clone, Copy, Debug)]
pub struct Blobs<'a> {
    store: &'a Store,
}

impl<'a> Blobs<'a> {
    pub(crate) fn new(store: &'a Store) -> Blobs<'a> {
        Blobs { store }
    }

    /// Is the blob here?
    ///
    /// # Errors
    /// System errors other than that it is missing.
    pub fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.store.root.exists(&place(digest)).map_err(|source| StoreError::System { doing: "look for a blob", source })
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBlob`], system errors.
    pub fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        match self.store.root.size(&place(digest)) {
            Err(error) if error.errno() == Errno::NOENT => Err(StoreError::NoSuchBlob(digest.clone())),
            other => other.map_err(|source| StoreError::System { doing: "look for a blob", source }),
        }
    }

    /// Opens it for reading, unverified: for what the reader verifies itself, or large ones after [`Blobs::verify`].
    ///
    /// # Errors
    /// [`StoreError::NoSuchBlob`], system errors.
    pub fn open(&self, digest: &Digest) -> Result<File, StoreError> {
        match self.store.root.file(&place(digest), OFlags::RDONLY) {
            Err(error) if error.errno() == Errno::NOENT => Err(StoreError::NoSuchBlob(digest.clone())),
            other => other.map(File::from).map_err(|source| StoreError::System { doing: "open a blob", source }),
        }
    }

    /// Reads a small one whole, and verifies it.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBlob`]; [`StoreError::BlobSize`] if it is longer than `most`; [`StoreError::BlobDigest`] if
    /// the disk changed it; system errors.
    pub fn read(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, StoreError> {
        let file = self.open(digest)?;
        let mut bytes = Vec::new();
        let name = place(digest);
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| file_error("read", &name, &error))?;
        if bytes.len() as u64 > most {
            return Err(StoreError::BlobSize { digest: digest.clone(), expected: most, actual: bytes.len() as u64 });
        }
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        expect(digest, hasher)?;
        Ok(bytes)
    }

    /// Reads it through and compares its digest.
    ///
    /// # Errors
    /// As [`Blobs::read`].
    pub fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut file = self.open(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer).map_err(|error| file_error("read", &place(digest), &error))? {
                0 => return expect(digest, hasher),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    /// Stores `size` bytes from `source` if their digest is right. A blob that is here already is not read again.
    ///
    /// # Errors
    /// [`StoreError::BlobSize`], [`StoreError::BlobDigest`], [`StoreError::Source`], system errors. Nothing is left then.
    pub fn write(&self, digest: &Digest, size: u64, source: impl Read) -> Result<(), StoreError> {
        if self.contains(digest)? {
            return Ok(());
        }
        let system = |source| StoreError::System { doing: "store a blob", source };
        let staged = StagedFile::new(self.store, "blob").map_err(system)?;
        match copy(digest, size, source, &staged.fd) {
            Ok(()) => self.publish(digest, staged).map_err(system),
            Err(error) => {
                // The first error is the one to tell; a sweep removes what this leaves.
                staged.discard().ok();
                Err(error)
            }
        }
    }

    /// Stores bytes that are in memory and returns their SHA-256 digest.
    ///
    /// # Errors
    /// System errors.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::sha256(bytes);
        self.write(&digest, bytes.len() as u64, bytes)?;
        Ok(digest)
    }

    fn publish(&self, digest: &Digest, staged: StagedFile) -> Result<(), SystemError> {
        boot::mark(self.store, &format!("blob-{}-{}", digest.algorithm().name(), digest.hex()))?;
        let directory = self.store.root.create(NAME)?.create(digest.algorithm().name())?;
        staged.publish(&directory, digest.hex())
    }

    /// Removes a blob; false if there is none.
    ///
    /// # Errors
    /// System errors.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let existed = self.contains(digest)?;
        self.store
            .root
            .unlink(&place(digest))
            .map_err(|source| StoreError::System { doing: "remove a blob", source })?;
        Ok(existed)
    }

    /// All blobs, sorted.
    ///
    /// # Errors
    /// System errors.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let system = |source| StoreError::System { doing: "list the blobs", source };
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let entries = match self.store.root.open(&format!("{NAME}/{}", algorithm.name())) {
                Err(error) if error.errno() == Errno::NOENT => continue,
                other => other.and_then(|directory| directory.entries()).map_err(system)?,
            };
            digests.extend(entries.iter().filter_map(|(name, _)| digest_of_hex(name)));
        }
        Ok(digests)
    }
}

fn place(digest: &Digest) -> String {
    format!("{NAME}/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The two algorithms have digests of different lengths.
pub(crate) fn digest_of_hex(name: &str) -> Option<Digest> {
    let algorithm = if name.len() == 128 { Algorithm::Sha512 } else { Algorithm::Sha256 };
    format!("{}:{name}", algorithm.name()).parse().ok()
}

fn copy(digest: &Digest, size: u64, source: impl Read, to: &OwnedFd) -> Result<(), StoreError> {
    let mut file = File::from(to.try_clone().map_err(|error| file_error("fcntl", "<staged blob>", &error))?);
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; 128 << 10];
    let mut actual = 0_u64;
    let wrong = |actual| StoreError::BlobSize { digest: digest.clone(), expected: size, actual };
    // One byte more than announced is asked for, to see whether the source goes on; reading to its end also lets a
    // source that verifies itself do so.
    let mut source = source.take(size.saturating_add(1));
    loop {
        let count = match source.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.map_err(StoreError::Source)?,
        };
        if count == 0 {
            break;
        }
        actual += count as u64;
        if actual > size {
            return Err(wrong(actual));
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(|error| file_error("write", "<staged blob>", &error))?;
    }
    if actual < size {
        return Err(wrong(actual));
    }
    expect(digest, hasher)
}

fn expect(digest: &Digest, hasher: Hasher) -> Result<(), StoreError> {
    let actual = hasher.finish();
    if actual == *digest { Ok(()) } else { Err(StoreError::BlobDigest { expected: digest.clone(), actual }) }
}

pub(crate) fn file_error(call: &str, file: &str, error: &std::io::Error) -> StoreError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    StoreError::System {
        doing: "read or write a file of the store",
        source: SystemError::new(format!("{call}(<root>/{file})"), errno),
    }
}

/// A new directory with mode 0755 whatever the umask is, and without an inherited set-group-id bit.
pub(crate) fn new_directory(parent: &Directory, name: &str) -> Result<OwnedFd, StoreError> {
    let make = || {
        let call = |call: &str| format!("{call}({}, \"{name}\")", parent.label());
        fs::mkdirat(parent, name, Mode::RWXU).during(|| call("mkdirat"))?;
        let fd = fs::openat(parent, name, OPEN, Mode::empty()).during(|| call("openat"))?;
        fs::fchmod(&fd, Mode::from_raw_mode(0o755)).during(|| call("fchmod"))?;
        Ok(fd)
    };
    make().map_err(|source| StoreError::System { doing: "make a directory", source })
}
