//! A PostgreSQL of a test's own: a cluster in a temporary folder, made by Debian's package, with fsync on. Gone with the value.
//!
//! This file needs nothing but `std` and `tempfile`, so that tests of other crates can include it by its path. It listens on a
//! unix socket in its folder (no password) and on a loopback port (SCRAM, with the password in [`Postgres::password_file`]).
//! The server ends with the thread that started it, however that ends; so start and restart it from the test's own thread.

use std::{
    ffi::OsStr,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Who may be asked to run the server when the tests are root, which it refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// How long it may take until the server answers.
const START_MAX: Duration = Duration::from_secs(60);
/// The role and the database that every cluster has.
const ROLE: &str = "legation";

/// A running (or stopped) server.
pub(crate) struct Postgres {
    dir: TempDir,
    bin: PathBuf,
    /// Nothing when the tests may run it themselves.
    user: Option<&'static str>,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes and starts a cluster; without the package nothing, which is said.
    pub(crate) fn start() -> Option<Self> {
        let Some(bin) = binaries() else {
            eprintln!("SKIPPED: no PostgreSQL server under /usr/lib/postgresql (Debian: apt-get install postgresql)");
            return None;
        };
        let dir = TempDir::with_prefix("pg").unwrap();
        let root = dir.path().metadata().unwrap().uid() == 0;
        let known = |user: &&str| Command::new("id").arg(user).output().is_ok_and(|o| o.status.success());
        let user = USERS.into_iter().find(known).filter(|_| root);
        if root && user.is_none() {
            eprintln!("SKIPPED: PostgreSQL does not run as root, and there is no user to run it as");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = Self { dir, bin, user, port, server: None };
        postgres.make();
        postgres.restart();
        Some(postgres)
    }

    /// `postgres://` URL of the database `legation`, over the unix socket.
    pub(crate) fn url(&self) -> String {
        self.url_of(ROLE)
    }

    /// URL of another database of this cluster, over the unix socket.
    pub(crate) fn url_of(&self, database: &str) -> String {
        let folder = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://{ROLE}@{folder}:{}/{database}", self.port)
    }

    /// URL of the database `legation` over TCP on loopback: needs the password.
    pub(crate) fn tcp_url(&self) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{ROLE}", self.port)
    }

    /// File with the password of the role, and nothing else.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    /// Makes another database; gives its URL.
    pub(crate) fn database(&self, name: &str) -> String {
        self.query(&format!("create database {name}"));
        self.url_of(name)
    }

    /// What `psql` prints for a statement in the database `legation`: a row a line, columns apart by `|`.
    pub(crate) fn query(&self, sql: &str) -> String {
        self.query_in(ROLE, sql)
    }

    /// As [`Self::query`], in another database.
    pub(crate) fn query_in(&self, database: &str, sql: &str) -> String {
        done(self.psql(database).args(["-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    /// `psql` in a database.
    pub(crate) fn psql(&self, database: &str) -> Command {
        let port = self.port.to_string();
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-U", ROLE, "-p", &port, "-d", database, "-h"]).arg(self.dir.path());
        psql
    }

    /// `pg_ctl stop -m immediate`: as if the power failed, but for what the disk would forget.
    pub(crate) fn stop_immediately(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-m", "immediate", "-w", "-D"]).arg(self.data());
        let stopped = stop.output().is_ok_and(|o| o.status.success());
        if !stopped {
            let _ = server.kill();
        }
        let _ = server.wait();
    }

    /// Starts the server where it was stopped; returns when it answers. The port and all URLs stay.
    pub(crate) fn restart(&mut self) {
        assert!(self.server.is_none(), "the server runs");
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        // Immediate shutdown when the test dies.
        command.args(["--pdeathsig", "QUIT"]);
        if let Some(user) = self.user {
            command.args(["--reuid", user, "--regid", &group(user), "--clear-groups"]);
        }
        command.arg(self.bin.join("postgres")).arg("-D").arg(self.data());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir(self.dir.path());
        self.server = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while !self.answers() {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().unwrap());
            if ended.is_some() || begun.elapsed() > START_MAX {
                panic!("PostgreSQL does not answer ({ended:?}): {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the server takes connections.
    fn answers(&self) -> bool {
        let port = self.port.to_string();
        let mut ready = Command::new(self.bin.join("pg_isready"));
        ready.args(["-q", "-p", &port, "-h"]).arg(self.dir.path()).status().is_ok_and(|s| s.success())
    }

    /// What the server has written.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of the package, run as whoever owns the cluster.
    fn command(&self, program: &str) -> Command {
        let path = self.bin.join(program);
        let mut command = match self.user {
            None => Command::new(path),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", &group(user), "--clear-groups"]).arg(path);
                command
            }
        };
        command.current_dir(self.dir.path());
        command
    }

    fn make(&self) {
        let (data, password) = (self.data(), self.password_file());
        std::fs::write(&password, format!("secret-{}", self.port)).unwrap();
        std::fs::set_permissions(self.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        if let Some(user) = self.user {
            std::fs::create_dir(&data).unwrap();
            done(Command::new("chown").arg(format!("{user}:")).arg(self.dir.path()).arg(&data).arg(&password));
        }
        let mut initdb = self.command("initdb");
        // The making need not be durable, what is written later is: fsync stays on.
        initdb.args(["-N", "-U", ROLE, "-E", "UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]);
        done(initdb.arg("-D").arg(&data).arg(format!("--pwfile={}", password.display())));
        let settings = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = on\nsynchronous_commit = on\n\
             shared_buffers = 32MB\nmax_connections = 40\ndynamic_shared_memory_type = mmap\nautovacuum = off\n\
             log_min_messages = warning\n",
            self.port,
            self.dir.path().display()
        );
        let path = data.join("postgresql.conf");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{before}\n{settings}")).unwrap();
        // A single server without connections: `psql` is not needed yet.
        let mut single = self.command("postgres");
        single.args(["--single", "-j", "-D"]).arg(&data).arg("postgres").stdin(Stdio::piped());
        let mut child = single.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let statement = format!("create database {ROLE} owner {ROLE};\n");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), statement.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "the database could not be made");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop_immediately();
    }
}

/// The newest installed version's programs.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &Path| path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok());
    let mut found: Vec<_> =
        versions.flatten().map(|entry| entry.path()).filter_map(|p| Some((number(&p)?, p))).collect();
    found.sort();
    let bin = found.into_iter().map(|(_, path)| path.join("bin"));
    bin.rev().find(|bin| ["initdb", "pg_ctl", "postgres", "psql"].iter().all(|tool| bin.join(tool).is_file()))
}

fn group(user: &str) -> String {
    done(Command::new("id").args(["-g", user])).trim().to_owned()
}

fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

#[test]
fn a_cluster_comes_back_after_an_immediate_stop() {
    let Some(mut postgres) = Postgres::start() else { return };
    postgres.query("create table t (n int)");
    postgres.query("insert into t values (7)");
    postgres.stop_immediately();
    postgres.restart();
    assert_eq!(postgres.query("select n from t").trim(), "7", "{}", postgres.log());
    assert_eq!(postgres.query("show fsync").trim(), "on");
    let other = postgres.database("other");
    assert!(other.ends_with("/other") && postgres.url().ends_with("/legation"), "{other}");
    assert!(postgres.tcp_url().contains("127.0.0.1") && postgres.password_file().is_file());
}
