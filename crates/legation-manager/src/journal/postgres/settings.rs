//! Where the database is and how it is reached. Plain text goes to this machine only; everything else is TLS 1.3.

use std::{future::Future, net::IpAddr, path::Path, pin::Pin, str::FromStr, time::Duration};

use legation_core::Rejection;
use legation_verifier::{
    http::{self, Authorities},
    remote,
};
use tokio_postgres::{
    Client, Config,
    config::{Host, SslMode, TargetSessionAttrs},
};
use zeroize::Zeroizing;

use super::tls::MakeTls;

/// Variable of the environment that may hold the role's password.
pub const PASSWORD_VARIABLE: &str = "LEGATION_JOURNAL_PASSWORD";

/// A connection that is driven, and what drives it.
pub(crate) type Up = (Client, Pin<Box<dyn Future<Output = ()> + Send>>);

/// Where a journal is. `Debug` shows no password.
pub struct PostgresSettings {
    config: Config,
    tls: MakeTls,
}

impl std::fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresSettings({:?} {:?})", self.config.get_hosts(), self.config.get_dbname())
    }
}

fn refuse(claim: &str) -> Rejection {
    Rejection::new("config.journal", claim.to_owned())
        .fix("postgres://ROLE@HOST:PORT/DATABASE without a password; see docs/operate.md, \"Several managers\"")
}

/// Whether a host is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

impl PostgresSettings {
    /// Settings of a URL. The password is of a file, or of [`PASSWORD_VARIABLE`], where one is needed.
    ///
    /// # Errors
    /// `config.journal`: the URL is none, holds a password, or would have plain text leave this machine. `http.authorities`.
    pub fn new(url: &str, password_file: Option<&Path>, authorities: Option<&Path>) -> Result<Self, Rejection> {
        // What is wrong in it may be the password: it is not quoted.
        let mut config =
            Config::from_str(url).map_err(|_| refuse("URL of the journal's database").got("no such URL"))?;
        if config.get_password().is_some() {
            return Err(refuse("URL of the journal's database")
                .expected("no password in it")
                .got("one")
                .fix(format!("put it in a file and set `password_file`, or in {PASSWORD_VARIABLE}")));
        }
        if config.get_hosts().is_empty() || config.get_dbname().is_none() || config.get_user().is_none() {
            return Err(refuse("URL of the journal's database").expected("role, host and database").got("less"));
        }
        let here = config.get_hosts().iter().all(is_here) && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
        match (here, config.get_ssl_mode()) {
            (true, SslMode::Prefer | SslMode::Disable) => config.ssl_mode(SslMode::Disable),
            (true, _) | (false, SslMode::Prefer | SslMode::Require) => config.ssl_mode(SslMode::Require),
            (false, _) => {
                return Err(refuse("URL of the journal's database")
                    .expected("TLS, or a server on this machine (a loopback address or a unix socket)")
                    .got("plain text over the network")
                    .fix("leave `sslmode` out: TLS is used"));
            }
        };
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => MakeTls::none(),
            _ => {
                let authorities: Authorities = remote::authorities(authorities)?;
                MakeTls::new(http::tls_config(&authorities, http::Tls::Ours)?)
            }
        };
        if let Some(password) = password(password_file)? {
            config.password(password.as_bytes());
        }
        let mut options = config.get_options().map(|own| format!("{own} ")).unwrap_or_default();
        // Durable whatever the server's default; and no transaction of a manager that sleeps holds the others up.
        options.push_str(
            "-c synchronous_commit=on -c idle_in_transaction_session_timeout=5000 -c statement_timeout=60000",
        );
        config
            .options(options)
            .application_name("legation-manager")
            .connect_timeout(Duration::from_secs(2))
            .tcp_user_timeout(Duration::from_secs(5))
            .keepalives_idle(Duration::from_secs(5))
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self { config, tls })
    }

    /// Connects. What is given beside the client must be driven, and ends with it.
    pub(crate) async fn connect(&self) -> Result<Up, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        // Why it ended is said to whoever waits for an answer.
        Ok((client, Box::pin(async move { drop(connection.await) })))
    }
}

fn password(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, Rejection> {
    let Some(path) = file else { return Ok(std::env::var(PASSWORD_VARIABLE).ok().map(Zeroizing::new)) };
    let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|e| {
        refuse("password of the journal's role")
            .expected(format!("a readable file {}", path.display()))
            .got(e)
            .fix("correct `password_file`")
    })?;
    Ok(Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_this_machine_and_urls_hold_no_password() {
        let here = [
            "postgres://legation@localhost/legation",
            "postgres://legation@127.0.0.1:5433/legation",
            "postgres://legation@127.9.9.9/legation?sslmode=disable",
            "postgres://legation@[::1]/legation",
            "postgres://legation@%2Frun%2Fpostgresql/legation",
            "host=/run/postgresql user=legation dbname=legation",
        ];
        for url in here {
            let settings = PostgresSettings::new(url, None, None).unwrap();
            assert_eq!(settings.config.get_ssl_mode(), SslMode::Disable, "{url}");
        }
        let authorities = tempfile::NamedTempFile::new().unwrap();
        let key = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
        let text = legation_core::encoding::base64(key.cert.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(authorities.path(), pem).unwrap();
        for url in [
            "postgres://legation@db.example/legation",
            "postgres://legation@10.0.0.7/legation?sslmode=require",
            "postgres://legation@localhost/legation?sslmode=require",
            "postgres://legation@localhost,db.example/legation",
            "host=localhost hostaddr=10.0.0.7 user=legation dbname=legation",
        ] {
            let settings = PostgresSettings::new(url, None, Some(authorities.path())).unwrap();
            assert_eq!(settings.config.get_ssl_mode(), SslMode::Require, "{url}");
        }
        for (url, said) in [
            ("postgres://legation@db.example/legation?sslmode=disable", "plain text over the network"),
            ("host=localhost hostaddr=10.0.0.7 user=l dbname=l sslmode=disable", "plain text over the network"),
            ("postgres://legation:hunter2@localhost/legation", "no password in it"),
            ("postgres://localhost/legation", "role, host and database"),
            ("postgres://legation@localhost:hunter2/x", "no such URL"),
            ("mysql://legation@localhost/x", "no such URL"),
        ] {
            let why = PostgresSettings::new(url, None, None).unwrap_err();
            assert_eq!(why.check, "config.journal", "{url}");
            assert!(why.to_string().contains(said) && !why.to_string().contains("hunter2"), "{url}: {why}");
        }
    }

    #[test]
    fn nothing_shows_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let settings = PostgresSettings::new("postgres://l@localhost/l", Some(file.path()), None).unwrap();
        assert_eq!(settings.config.get_password(), Some(&b"hunter2"[..]));
        assert!(!format!("{settings:?} {:?}", settings.config).contains("hunter2"));
        let missing = PostgresSettings::new("postgres://l@localhost/l", Some(Path::new("/nowhere")), None);
        assert!(missing.unwrap_err().to_string().contains("/nowhere"));
    }
}
