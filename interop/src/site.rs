//! What a run works with: the directory of the peers, and what wss shows and believes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use data_encoding::BASE64;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Who is named in the certificate: the names of loopback.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Where the peers are, and an authority made for this run with a certificate of it. Dropping it takes the files away.
pub(crate) struct Site {
    peers: PathBuf,
    dir: PathBuf,
}

impl Site {
    /// Makes an authority and a certificate, and writes them where the peers can read them.
    pub(crate) fn new(peers: &Path) -> Result<Self, String> {
        let dir = env::temp_dir().join(format!("peerage-interop-{}", process::id()));
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let site = Self { peers: peers.to_owned(), dir };
        let files = certify().map_err(|error| format!("making a certificate: {error}"))?;
        let paths = [site.authority(), site.certificate(), site.key()];
        for (path, text) in paths.into_iter().zip(files) {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(site)
    }

    /// The directory of the peers.
    pub(crate) fn peers(&self) -> &Path {
        &self.peers
    }

    /// Whom a dialer believes, as PEM.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// What a listener shows, as PEM.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.join("certificate.pem")
    }

    /// Its key, as PEM.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The authority, the certificate and its key, as PEM.
fn certify() -> Result<[String; 3], rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "the authority of an interop run");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer_key = KeyPair::generate()?;
    let root = authority.self_signed(&issuer_key)?;
    let issuer = Issuer::new(authority, issuer_key);

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    // Without it OpenSSL does not find who has signed, where it is strict.
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer)?;
    let (root, certificate) = (pem("CERTIFICATE", root.der()), pem("CERTIFICATE", certificate.der()));
    // The authority is shown as well: a browser here believes its key, and has to see it for that.
    let chain = certificate + &root;
    Ok([root, chain, pem("PRIVATE KEY", &key.serialize_der())])
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    // Base64 is ASCII, so every cut is between characters.
    let lines = (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64)));
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_and_go() {
        let site = Site::new("peers".as_ref()).unwrap();
        let paths = [site.authority(), site.certificate(), site.key()];
        for path in &paths {
            let text = fs::read_to_string(path).unwrap();
            assert!(text.starts_with("-----BEGIN ") && text.ends_with("-----\n"), "{text}");
            assert!(text.lines().all(|line| line.len() <= 64));
        }
        drop(site);
        assert!(!paths.iter().any(|path| path.exists()));
    }
}
