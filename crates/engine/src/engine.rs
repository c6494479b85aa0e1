//! The engine itself: two directories, and what is opened in them when it is first needed.

use crate::database::Database;
use crate::directories::Directories;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use std::cell::{OnceCell, RefCell, RefMut};
use std::path::{Path, PathBuf};
use store::{Ownership, Store};

/// Where an engine keeps its things.
#[derive(Clone, Debug)]
pub struct Config {
    /// What survives a boot.
    pub data_root: PathBuf,
    /// What does not: a tmpfs.
    pub run_root: PathBuf,
    /// This program's file; found by `/proc/self/exe` when absent.
    pub program: Option<PathBuf>,
}

impl Config {
    /// The directories of the machine's engine for root, of the user's own for others.
    ///
    /// `home` and `runtime` are the values of `XDG_DATA_HOME` (or `$HOME/.local/share`) and `XDG_RUNTIME_DIR`.
    pub fn for_user(is_root: bool, data_home: Option<PathBuf>, runtime: Option<PathBuf>) -> Result<Config> {
        if is_root {
            return Ok(Config { data_root: "/var/lib/dhow".into(), run_root: "/run/dhow".into(), program: None });
        }
        let data = data_home.ok_or_else(|| {
            Error::new(Kind::InvalidArgument, "cannot tell where to keep data: neither HOME nor XDG_DATA_HOME is set")
                .hint("set HOME, or use --root and --run-dir")
        })?;
        let data_root = data.join("dhow");
        let run_root = match runtime {
            Some(directory) if directory.is_dir() => directory.join("dhow"),
            // Outside a login session there is no tmpfs of the user's own.
            _ => data_root.join("run"),
        };
        Ok(Config { data_root, run_root, program: None })
    }
}

/// An open engine. One thread uses it; another opens its own.
#[derive(Debug)]
pub struct Engine {
    directories: Directories,
    database: OnceCell<RefCell<Database>>,
    store: OnceCell<Store>,
    host: OnceCell<Host>,
    program: OnceCell<PathBuf>,
    registry_account: RefCell<Option<Option<crate::registries::Account>>>,
}

impl Engine {
    /// Opens the engine of two directories, making them where they are missing.
    pub fn open(config: Config) -> Result<Engine> {
        let engine = Engine {
            directories: Directories::open(&config.data_root, &config.run_root)?,
            database: OnceCell::new(),
            store: OnceCell::new(),
            host: OnceCell::new(),
            program: OnceCell::new(),
            registry_account: RefCell::new(None),
        };
        if let Some(program) = config.program {
            engine.program.get_or_init(|| program);
        }
        Ok(engine)
    }

    /// Where things are.
    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    /// From here on registries are asked with this account, or with none, and not with those of the user as whom this
    /// process runs. For servers, whose clients bring their own.
    pub fn use_registry_account(&self, account: Option<crate::registries::Account>) {
        self.registry_account.replace(Some(account));
    }

    pub(crate) fn registry_options(&self) -> registry::Options {
        let options = registry::Options::from_environment();
        match self.registry_account.borrow().as_ref() {
            None => options,
            Some(account) => crate::registries::only(options, account.as_ref()),
        }
    }

    pub(crate) fn database(&self) -> Result<RefMut<'_, Database>> {
        if self.database.get().is_none() {
            let database = Database::open(&self.directories.database())?;
            self.database.get_or_init(|| RefCell::new(database));
        }
        let cell = self.database.get().ok_or_else(|| Error::new(Kind::Internal, "the database is not open"))?;
        cell.try_borrow_mut().internal(|| "the database is in use by this very operation".into())
    }

    pub(crate) fn store(&self) -> Result<&Store> {
        if self.store.get().is_none() {
            let host = self.host()?;
            let ownership = Ownership { user_xattr: host.user_namespace, single_id: host.single_id };
            let form = crate::storage::form(&self.directories.data, host.user_namespace)?;
            let store = Store::open(&self.directories.data, ownership)
                .internal(|| format!("cannot open the store in {}", self.directories.data.display()))?;
            let store = form.of(store);
            self.store.get_or_init(|| store);
        }
        self.store.get().ok_or_else(|| Error::new(Kind::Internal, "the store is not open"))
    }

    pub(crate) fn host(&self) -> Result<&Host> {
        if self.host.get().is_none() {
            let host = Host::read()?;
            self.host.get_or_init(|| host);
        }
        self.host.get().ok_or_else(|| Error::new(Kind::Internal, "the host is not known"))
    }

    /// A file with this program that a container may execute.
    pub(crate) fn program_for_containers(&self) -> Result<PathBuf> {
        match self.host()?.selinux {
            true => crate::relabel::program(self.program()?, &self.directories.data),
            false => self.program().map(Path::to_owned),
        }
    }

    /// This program's file on the host.
    pub(crate) fn program(&self) -> Result<&Path> {
        if self.program.get().is_none() {
            let path = std::fs::read_link("/proc/self/exe").internal(|| "cannot read /proc/self/exe".into())?;
            self.program.get_or_init(|| path);
        }
        self.program.get().map(PathBuf::as_path).ok_or_else(|| Error::new(Kind::Internal, "this program is not known"))
    }
}
