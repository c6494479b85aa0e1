//! The state that survives: images, containers, addresses, in SQLite (WAL mode).
//!
//! Several dhow processes use the file at once. Rules:
//! - transactions are short and never span a system call that can block on another process;
//! - a writing transaction begins IMMEDIATE, so that it waits at its start (for 10 s at most) and cannot fail half way;
//! - what the kernel does not clean by itself is inserted here before it is made, and deleted after it is gone.
//!
//! `synchronous=NORMAL`: a power cut can lose the last transactions, never the consistency of the file
//! (sqlite.org/wal.html, "Performance Considerations").
//!
//! Layers, blobs and directories carry their own locks (crate `store`); the order is: store lock, then database.

use crate::error::{Error, Kind, Result};
use crate::wal_head::Head;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Each entry takes the schema from its index to the next version (`PRAGMA user_version`). Entries are only ever added.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE image (
        id TEXT PRIMARY KEY,             -- digest of the configuration
        manifest TEXT NOT NULL,          -- digest of the manifest, a blob
        created TEXT NOT NULL,           -- as in the configuration
        size INTEGER NOT NULL            -- bytes of the unpacked layers
    ) WITHOUT ROWID;
    CREATE TABLE image_layer (
        image TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
        position INTEGER NOT NULL,       -- 0 is the lowest
        diff_id TEXT NOT NULL,
        PRIMARY KEY (image, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layer_diff_id ON image_layer (diff_id);
    CREATE TABLE image_name (
        name TEXT PRIMARY KEY,           -- canonical: domain/path:tag or domain/path@digest
        image TEXT NOT NULL REFERENCES image ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX image_name_image ON image_name (image);
    CREATE TABLE container (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image TEXT NOT NULL,             -- image.id, or the name of a built-in image
        created_at TEXT NOT NULL,
        auto_remove INTEGER NOT NULL,
        settings TEXT NOT NULL,          -- record::Settings
        run TEXT                         -- record::Run of the last run that ended, or of the present one; NULL: never started
    ) WITHOUT ROWID;
    CREATE INDEX container_image ON container (image);
    CREATE TABLE network (
        name TEXT PRIMARY KEY,
        bridge TEXT NOT NULL UNIQUE,     -- interface
        subnet TEXT NOT NULL,
        gateway TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE address (
        network TEXT NOT NULL REFERENCES network,
        ipv4 INTEGER NOT NULL,           -- big-endian value
        container TEXT NOT NULL REFERENCES container ON DELETE CASCADE,
        PRIMARY KEY (network, ipv4)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX address_container ON address (container, network);
    CREATE TABLE publication (
        container TEXT PRIMARY KEY REFERENCES container ON DELETE CASCADE,
        ports TEXT NOT NULL              -- network::Publication
    ) WITHOUT ROWID;",
    "CREATE TABLE volume (
        name TEXT PRIMARY KEY,
        created_at TEXT NOT NULL,
        anonymous INTEGER NOT NULL,      -- nobody chose the name
        options TEXT NOT NULL,           -- a JSON object
        labels TEXT NOT NULL             -- a JSON object
    ) WITHOUT ROWID;
    CREATE TABLE volume_use (
        volume TEXT NOT NULL REFERENCES volume,
        container TEXT NOT NULL REFERENCES container ON DELETE CASCADE,
        PRIMARY KEY (volume, container)
    ) WITHOUT ROWID;
    CREATE INDEX volume_use_container ON volume_use (container);
    CREATE TABLE image_mount (           -- images that containers mount, beside the one they were made from
        image TEXT NOT NULL REFERENCES image,
        container TEXT NOT NULL REFERENCES container ON DELETE CASCADE,
        PRIMARY KEY (image, container)
    ) WITHOUT ROWID;
    CREATE INDEX image_mount_container ON image_mount (container);",
    // Networks of users: identifiers, several ranges for each, any number of them for a container.
    "CREATE TABLE network_new (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        interface TEXT UNIQUE,           -- of the bridge, where there is one
        created_at TEXT NOT NULL,
        settings TEXT NOT NULL           -- networks::record::NetworkSettings
    ) WITHOUT ROWID;
    INSERT INTO network_new SELECT lower(hex(randomblob(32))), name, bridge, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
        json_object('driver', 'bridge', 'ipv4', json('true'),
            'subnets', json_array(json_object('subnet', subnet, 'gateway', gateway))) FROM network;
    INSERT INTO network_new SELECT lower(hex(randomblob(32))), column1, NULL, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
        json_object('driver', column2) FROM (VALUES ('host', 'host'), ('none', 'null'));
    DROP TABLE address;
    DROP TABLE network;
    ALTER TABLE network_new RENAME TO network;
    CREATE TABLE endpoint (              -- a container on a network, running or not
        container TEXT NOT NULL REFERENCES container ON DELETE CASCADE,
        network TEXT NOT NULL,           -- network.id; the network may be gone when the container starts
        position INTEGER NOT NULL,
        request TEXT NOT NULL,           -- networks::options::NetworkRequest
        place TEXT,                      -- networks::record::Place while it runs
        PRIMARY KEY (container, network)
    ) WITHOUT ROWID;
    CREATE INDEX endpoint_network ON endpoint (network);
    CREATE TABLE lease (
        network TEXT NOT NULL REFERENCES network ON DELETE CASCADE,
        address BLOB NOT NULL,           -- 4 or 16 bytes
        container TEXT NOT NULL REFERENCES container ON DELETE CASCADE,
        PRIMARY KEY (network, address)
    ) WITHOUT ROWID;
    CREATE INDEX lease_container ON lease (container);",
    "CREATE TABLE image_signature (       -- those that an image was accepted for when it was pulled
        image TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
        position INTEGER NOT NULL,
        body TEXT NOT NULL,              -- signature::Signature
        PRIMARY KEY (image, position)
    ) WITHOUT ROWID;",
    "CREATE TABLE secret (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,              -- secrets::SecretKind
        name TEXT NOT NULL,
        created_at TEXT NOT NULL,
        labels TEXT NOT NULL,            -- a JSON object
        content BLOB NOT NULL,
        UNIQUE (kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE secret_use (
        secret TEXT NOT NULL REFERENCES secret,
        container TEXT NOT NULL REFERENCES container ON DELETE CASCADE,
        PRIMARY KEY (secret, container)
    ) WITHOUT ROWID;
    CREATE INDEX secret_use_container ON secret_use (container);",
    // Lists: what a line shows stands by itself, as the settings fill pages (containers::lines). SQLite keeps it.
    "ALTER TABLE image ADD COLUMN labels TEXT;  -- a JSON object; NULL: the configuration has to be asked
    CREATE TABLE container_line (
        created_at TEXT NOT NULL,
        container TEXT NOT NULL,
        name TEXT NOT NULL,
        run TEXT,
        line TEXT NOT NULL,              -- a JSON array, containers::lines::Line
        PRIMARY KEY (created_at DESC, container)
    ) WITHOUT ROWID;
    CREATE TRIGGER container_line_new AFTER INSERT ON container BEGIN
        INSERT INTO container_line VALUES (new.created_at, new.id, new.name, new.run, json_extract(new.settings, '$.image_name', '$.image_id',
            '$.entrypoint', '$.command', '$.hostname', '$.labels', '$.mounts', '$.network', '$.networks[0].network', '$.ports',
            '$.exposed_ports', '$.health.Test', '$.front_end.Owner'));
    END;
    CREATE TRIGGER container_line_run AFTER UPDATE OF name, run ON container BEGIN
        UPDATE container_line SET name = new.name, run = new.run
            WHERE created_at = new.created_at AND container = new.id;
    END;
    CREATE TRIGGER container_line_settings AFTER UPDATE OF settings ON container BEGIN
        UPDATE container_line SET line = json_extract(new.settings, '$.image_name', '$.image_id',
            '$.entrypoint', '$.command', '$.hostname', '$.labels', '$.mounts', '$.network', '$.networks[0].network', '$.ports',
            '$.exposed_ports', '$.health.Test', '$.front_end.Owner')
            WHERE created_at = new.created_at AND container = new.id;
    END;
    CREATE TRIGGER container_line_gone AFTER DELETE ON container BEGIN
        DELETE FROM container_line WHERE created_at = old.created_at AND container = old.id;
    END;
    INSERT INTO container_line SELECT created_at, id, name, run, json_extract(settings, '$.image_name', '$.image_id',
            '$.entrypoint', '$.command', '$.hostname', '$.labels', '$.mounts', '$.network', '$.networks[0].network', '$.ports',
            '$.exposed_ports', '$.health.Test', '$.front_end.Owner') FROM container;",
    // A table whose rows are kept behind their keys compares keys by reading whole rows, and settings fill pages: a lookup read
    // eighteen of them where it now reads one or two. Small columns come first, so that they are read without the settings.
    "CREATE TABLE container_new (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT NOT NULL UNIQUE,
        image TEXT NOT NULL,             -- image.id, or the name of a built-in image
        created_at TEXT NOT NULL,
        auto_remove INTEGER NOT NULL,
        run TEXT,                        -- record::Run of the last run that ended, or of the present one; NULL: never started
        settings TEXT NOT NULL           -- record::Settings
    );
    INSERT INTO container_new SELECT id, name, image, created_at, auto_remove, run, settings FROM container;
    DROP TABLE container;
    ALTER TABLE container_new RENAME TO container;
    CREATE INDEX container_image ON container (image);
    CREATE TRIGGER container_line_new AFTER INSERT ON container BEGIN
        INSERT INTO container_line VALUES (new.created_at, new.id, new.name, new.run, json_extract(new.settings, '$.image_name', '$.image_id',
            '$.entrypoint', '$.command', '$.hostname', '$.labels', '$.mounts', '$.network', '$.networks[0].network', '$.ports',
            '$.exposed_ports', '$.health.Test', '$.front_end.Owner'));
    END;
    CREATE TRIGGER container_line_run AFTER UPDATE OF name, run ON container BEGIN
        UPDATE container_line SET name = new.name, run = new.run
            WHERE created_at = new.created_at AND container = new.id;
    END;
    CREATE TRIGGER container_line_settings AFTER UPDATE OF settings ON container BEGIN
        UPDATE container_line SET line = json_extract(new.settings, '$.image_name', '$.image_id',
            '$.entrypoint', '$.command', '$.hostname', '$.labels', '$.mounts', '$.network', '$.networks[0].network', '$.ports',
            '$.exposed_ports', '$.health.Test', '$.front_end.Owner')
            WHERE created_at = new.created_at AND container = new.id;
    END;
    CREATE TRIGGER container_line_gone AFTER DELETE ON container BEGIN
        DELETE FROM container_line WHERE created_at = old.created_at AND container = old.id;
    END;",
    // Lists show annotations since version 1.46 of Docker's API.
    "DROP TRIGGER container_line_new;
    DROP TRIGGER container_line_settings;
    CREATE TRIGGER container_line_new AFTER INSERT ON container BEGIN
        INSERT INTO container_line VALUES (new.created_at, new.id, new.name, new.run, json_extract(new.settings, '$.image_name', '$.image_id',
            '$.entrypoint', '$.command', '$.hostname', '$.labels', '$.mounts', '$.network', '$.networks[0].network', '$.ports',
            '$.exposed_ports', '$.health.Test', '$.front_end.Owner', '$.annotations'));
    END;
    CREATE TRIGGER container_line_settings AFTER UPDATE OF settings ON container BEGIN
        UPDATE container_line SET line = json_extract(new.settings, '$.image_name', '$.image_id',
            '$.entrypoint', '$.command', '$.hostname', '$.labels', '$.mounts', '$.network', '$.networks[0].network', '$.ports',
            '$.exposed_ports', '$.health.Test', '$.front_end.Owner', '$.annotations')
            WHERE created_at = new.created_at AND container = new.id;
    END;
    UPDATE container_line SET line = json_extract(c.settings, '$.image_name', '$.image_id',
            '$.entrypoint', '$.command', '$.hostname', '$.labels', '$.mounts', '$.network', '$.networks[0].network', '$.ports',
            '$.exposed_ports', '$.health.Test', '$.front_end.Owner', '$.annotations')
        FROM container AS c WHERE c.id = container_line.container;",
];

/// Bytes of the log at which it is copied into the file: 128 pages with their headers. A command that finds nobody else with the database
/// open reads all of it, some microseconds for each page; copying it waits for the disk twice.
const LOG_LIMIT: u64 = 128 * (4096 + 24);

/// Makes the file before SQLite does, which would let everybody read the containers' environments. The write-ahead log gets
/// the mode of the database.
fn make_private(path: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A lock on the database's directory, until it is dropped. Without it the worst is an error that a second attempt has not.
fn take_turn(database: Option<&str>) -> Option<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(Path::new(database?).parent()?, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).ok()?;
    Some(directory)
}

/// Waits for another process's transaction; false after ten seconds of waiting.
///
/// SQLite's own handler sleeps up to 100 ms between attempts, so that with 64 processes at once those who came late get in before
/// those who wait, for more than a second. With naps of 1 to 8 ms nobody was seen to wait for half of that.
fn wait_for_turn(attempts: i32) -> bool {
    const SHORT: i32 = 56;
    // 1 ms eight times, 2 ms eight times, up to 8 ms: 252 ms, and then 8 ms each.
    const LAST: i32 = SHORT + (10_000 - 252) / 8;
    let milliseconds = 1 + u64::from((attempts / 8).clamp(0, 7).unsigned_abs());
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    attempts < LAST
}

/// An open database.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    /// Tells connections of this process apart.
    number: u64,
    /// Changes that were made over this connection.
    changes: u64,
}

/// A state of the database, as a connection of this process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    connection: u64,
    changes: u64,
    others: i64,
}

impl Database {
    /// Opens or makes the database and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Database> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let fail = || format!("cannot open the database {}", path.display());
        make_private(path).map_err(|errno| Error::caused(Kind::Internal, fail(), errno))?;
        let mut connection = Connection::open_with_flags(path, flags).map_err(|e| translate(e, fail()))?;
        connection.busy_handler(Some(wait_for_turn)).map_err(|e| translate(e, fail()))?;
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut database = Database { connection, number: NUMBER.fetch_add(1, Relaxed), changes: 0 };
        database.prepare().map_err(|e| translate(e, fail()))?;
        Ok(database)
    }

    fn prepare(&mut self) -> rusqlite::Result<()> {
        // Closing the last connection would copy the log into the file and wait for the disk three times; a container's
        // start must not. The log is copied by `keep_log_short`, and by `settle`.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.connection
            .execute_batch("PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; PRAGMA wal_autocheckpoint=0;")?;
        self.connection.pragma_update(None, "journal_size_limit", LOG_LIMIT.cast_signed())?;
        let version = |c: &Connection| c.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
        if version(&self.connection)? as usize >= MIGRATIONS.len() {
            return Ok(());
        }
        // Persistent, so only a new database pays for it. SQLite does not wait for another connection here (SQLITE_BUSY at
        // once, where two would wait for each other), so processes take turns.
        let _turn = take_turn(self.connection.path());
        // A table that is replaced by a better one must not take with it what refers to its rows; within a transaction SQLite
        // ignores the switch.
        self.connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA foreign_keys=OFF;")?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = version(&transaction)?;
        for migration in MIGRATIONS.iter().skip(done as usize) {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "user_version", MIGRATIONS.len() as u32)?;
        transaction.commit()?;
        self.connection.execute_batch("PRAGMA foreign_keys=ON;")
    }

    /// Runs `work` in one writing transaction; an error rolls everything back.
    pub fn write<T>(&mut self, work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>) -> Result<T> {
        self.changes += 1;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| translate(e, "cannot begin a change of the database".into()))?;
        let value = work(&transaction)?;
        transaction.commit().map_err(|e| translate(e, "cannot commit a change of the database".into()))?;
        self.keep_log_short();
        Ok(value)
    }

    /// Copies the log into the file and empties it when it has grown to [`LOG_LIMIT`], if nobody else is using it now.
    ///
    /// SQLite's own way (`wal_autocheckpoint`) leaves the log as long as it is, to be written over by this process's next change. Where
    /// each change is another process's there is no such next change: with nobody there who remembers how much has been copied,
    /// every command reads the whole log (wal.c, walIndexRecover), and copies all of it again when it changes something.
    fn keep_log_short(&mut self) {
        let Some(path) = self.connection.path() else { return };
        if std::fs::metadata(format!("{path}-wal")).is_ok_and(|log| log.len() < LOG_LIMIT) {
            return;
        }
        // What is committed stays so. Whoever is in the way now, and every failure, only put this off until the next change.
        if self.connection.busy_handler(None::<fn(i32) -> bool>).is_ok() {
            drop(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)));
            drop(self.connection.busy_handler(Some(wait_for_turn)));
        }
    }

    /// Puts everything that was committed on stable storage: for images, which took a user's time to get.
    pub fn settle(&self) -> Result<()> {
        // Busy readers only put it off, which the first column says.
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        match busy {
            // The log is synced first (wal.c, walCheckpoint): only copying it into the file has failed, and what is in the
            // log is as good.
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => Ok(()),
            other => other.map(drop).sql("put the database on stable storage"),
        }
    }

    /// What the database is now. As long as it is this version, over the same connection, nobody has changed anything.
    pub fn version(&self) -> Result<Version> {
        // Others' changes alone are in this number (sqlite.org/pragma.html, "data_version").
        let others = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .sql("look whether the database has changed")?;
        Ok(Version { connection: self.number, changes: self.changes, others })
    }

    /// The same for who has no connection, where it can be told: what was committed is the same as long as it is current.
    pub(crate) fn head(&self) -> Option<Head> {
        Head::of(self.connection.path()?)
    }

    /// The connection, for reading.
    pub fn read(&self) -> &Connection {
        &self.connection
    }
}

/// Turns SQLite's failures into ours, with a hint where there is one thing to do.
pub(crate) fn translate(error: rusqlite::Error, message: String) -> Error {
    use rusqlite::ErrorCode;
    let code = error.sqlite_error_code();
    let wrapped = Error::caused(Kind::Internal, message, error);
    match code {
        Some(ErrorCode::DiskFull) => wrapped.hint("the disk is full: free some space, for example with `dhow rmi`"),
        Some(ErrorCode::ReadOnly) => wrapped.hint("the directory is read-only; choose another with --root"),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            wrapped.hint("check that the directory exists and belongs to you, or choose another with --root")
        }
        _ => wrapped,
    }
}

/// Shorthand for queries: `.sql("what was being read")?`.
pub(crate) trait Sql<T> {
    /// Wraps SQLite's error with what was being done.
    fn sql(self, doing: &str) -> Result<T>;
}

impl<T> Sql<T> for rusqlite::Result<T> {
    fn sql(self, doing: &str) -> Result<T> {
        self.map_err(|error| translate(error, format!("cannot {doing}")))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        translate(error, "cannot use the database".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_twice_and_keeps_the_schema() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let mut first = Database::open(&path).unwrap();
        let second = Database::open(&path).unwrap();
        first
            .write(|t| {
                t.execute("INSERT INTO network VALUES ('i', 'n', 'b', 't', '{}')", []).sql("insert")?;
                Ok(())
            })
            .unwrap();
        let count: i64 =
            second.read().query_row("SELECT count(*) FROM network WHERE name = 'n'", [], |r| r.get(0)).unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn a_version_is_of_one_connection_until_somebody_changes_something() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let (mut first, mut second) = (Database::open(&path).unwrap(), Database::open(&path).unwrap());
        let insert = |database: &mut Database, name: &str| {
            database
                .write(|t| {
                    let row = "INSERT INTO network VALUES (?1, ?1, NULL, 't', '{}')";
                    t.execute(row, [name]).sql("insert").map(drop)
                })
                .unwrap();
        };
        let before = first.version().unwrap();
        assert_eq!(first.version().unwrap(), before);
        assert_ne!(second.version().unwrap(), before);
        insert(&mut first, "own");
        let own = first.version().unwrap();
        assert_ne!(own, before);
        insert(&mut second, "other");
        assert_ne!(first.version().unwrap(), own);
    }

    #[test]
    fn the_log_stays_short_when_each_change_is_another_processs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let log = || std::fs::metadata(directory.path().join("x.db-wal")).map_or(0, |log| log.len());
        let mut longest = 0;
        for number in 0..400 {
            let settings = format!("{{\"a\":\"{}\"}}", "x".repeat(3000));
            let name = number.to_string();
            Database::open(&path)
                .unwrap()
                .write(|t| {
                    t.execute("INSERT INTO network VALUES (?1, ?1, NULL, 't', ?2)", [&name, &settings])
                        .sql("insert")?;
                    Ok(())
                })
                .unwrap();
            longest = longest.max(log());
        }
        // One change more than the limit, at most.
        assert!((LOG_LIMIT / 2..LOG_LIMIT + 64 * 4120).contains(&longest), "{longest}");
        // A reader in the way puts it off, and loses nothing.
        let reader = Database::open(&path).unwrap();
        reader.read().execute_batch("BEGIN; SELECT count(*) FROM network;").unwrap();
        let mut writer = Database::open(&path).unwrap();
        for number in 400..800 {
            let name = number.to_string();
            let row = [&name, &"x".repeat(3000)];
            let change = |t: &rusqlite::Transaction<'_>| {
                t.execute("INSERT INTO network VALUES (?1, ?1, NULL, 't', ?2)", row).sql("insert").map(drop)
            };
            writer.write(change).unwrap();
        }
        assert!(log() > LOG_LIMIT);
        drop(reader);
        writer.settle().unwrap();
        assert_eq!(log(), 0);
        let count = |database: &Database| -> i64 {
            database.read().query_row("SELECT count(*) FROM network", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count(&writer), 802);
    }

    #[test]
    fn containers_of_an_older_version_keep_their_networks_and_their_lines() {
        const OLDER: usize = 6;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let older = Connection::open(&path).unwrap();
        older.execute_batch("PRAGMA foreign_keys=ON;").unwrap();
        for migration in &MIGRATIONS[..OLDER] {
            older.execute_batch(migration).unwrap();
        }
        older.pragma_update(None, "user_version", OLDER as u32).unwrap();
        older
            .execute_batch(
                "INSERT INTO container VALUES ('c', 'name', 'i', 't', 0, '{\"image_name\":\"x\"}', NULL);
                INSERT INTO network VALUES ('n', 'net', NULL, 't', '{}');
                INSERT INTO endpoint VALUES ('c', 'n', 0, '{}', NULL);",
            )
            .unwrap();
        drop(older);
        let mut database = Database::open(&path).unwrap();
        let count = |database: &Database, table: &str| -> i64 {
            database.read().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        for table in ["container", "container_line", "endpoint"] {
            assert_eq!(count(&database, table), 1, "{table}");
        }
        // What refers to a container still goes with it, by the connection that has changed the schema too.
        database
            .write(|t| {
                t.execute("DELETE FROM container WHERE id = 'c'", []).sql("forget")?;
                Ok(())
            })
            .unwrap();
        for table in ["container", "container_line", "endpoint"] {
            assert_eq!(count(&database, table), 0, "{table}");
        }
    }
}
