use std::path::PathBuf;

use data_encoding::BASE64;
use peerage_transport::websocket::{Certificate, Config, authorities};

/// A certificate for some names, its key, and the authority that signed it, in files.
pub(crate) struct Pki {
    pub(crate) dir: PathBuf,
}

impl Pki {
    pub(crate) fn new(name: &str, names: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("peerage-host-pki-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut of_ca = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        of_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = rcgen::KeyPair::generate().expect("randomness");
        let ca = of_ca.self_signed(&ca_key).expect("signed");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().expect("randomness");
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.distinguished_name.push(rcgen::DnType::CommonName, "leaf");
        let signed = params.signed_by(&key, &rcgen::Issuer::new(of_ca, ca_key)).expect("signed");
        let this = Self { dir };
        this.write("ca.pem", "CERTIFICATE", ca.der());
        this.write("chain.pem", "CERTIFICATE", signed.der());
        this.write("key.pem", "PRIVATE KEY", &key.serialize_der());
        this
    }

    pub(crate) fn write(&self, file: &str, label: &str, der: &[u8]) {
        let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der));
        std::fs::write(self.dir.join(file), pem).expect("written");
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.system_roots = false;
        config.authorities = authorities(&self.dir.join("ca.pem")).expect("an authority");
        config.certificate =
            Some(Certificate::from_files(self.dir.join("chain.pem"), self.dir.join("key.pem")).expect("one"));
        config
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
