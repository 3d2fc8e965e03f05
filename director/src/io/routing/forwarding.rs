//! The host forwards what others send into the device, as long as that has to get here.
//!
//! IPv4 is forwarded interface by interface. IPv6 is since Linux 6.17 (`force_forwarding`); before, only the whole
//! host forwards, and what a host that forwards does not do any more is to take router advertisements, unless
//! it is told to.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fs, io};

use shared::addr::Family;
use shared::host::netlink::{Netlink, RTPROT_RA};
use shared::host::sysctl::{Remembered, Sysctl};
use tracing::{info, warn};

use super::{RoutingError, filters};

/// What of the host's settings is changed for it.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// What the settings were, for a director after this one.
    file: PathBuf,
    settings: Remembered,
    /// What is forwarded.
    families: BTreeSet<Family>,
    /// By which interfaces.
    interfaces: BTreeSet<String>,
}

impl Forwarding {
    /// Knows what a killed director has left changed.
    pub(super) fn new(file: PathBuf) -> Forwarding {
        let settings = match fs::read_to_string(&file).map(|text| serde_json::from_str(&text)) {
            Ok(Ok(settings)) => settings,
            Ok(Err(error)) => {
                warn!("{}: {error}", file.display());
                Remembered::default()
            }
            Err(_) => Remembered::default(),
        };
        Forwarding {
            file,
            settings,
            families: BTreeSet::new(),
            interfaces: BTreeSet::new(),
        }
    }

    /// What comes in by the interfaces may be forwarded into the device.
    pub(super) fn begin(
        &mut self,
        family: Family,
        device: &str,
        netlink: &mut Netlink,
    ) -> Result<(), RoutingError> {
        if self.families.contains(&family) {
            return Ok(());
        }
        for name in self.interfaces.clone() {
            match self.forward(&name, family, netlink) {
                // It has vanished, or has another name. One that is too narrow for IPv6 has no settings of it.
                Err(RoutingError::Sysctl(error)) if error.is_missing() => {
                    if family == Family::V4 {
                        self.interfaces.remove(&name);
                    }
                }
                outcome => outcome?,
            }
        }
        filters::warn_of_them(family, device);
        self.families.insert(family);
        Ok(())
    }

    /// Frames are taken from one more interface. One family's trouble is not the other's.
    pub(super) fn interface(&mut self, name: &str, netlink: &mut Netlink) {
        self.interfaces.insert(name.to_owned());
        for family in self.families.clone() {
            if let Err(error) = self.forward(name, family, netlink) {
                warn!("marked packets of {family} from {name} do not get here: {error}");
            }
        }
    }

    /// Puts a family's settings back.
    pub(super) fn end(&mut self, family: Family) {
        self.families.remove(&family);
        let path = match family {
            Family::V4 => "net/ipv4/",
            Family::V6 => "net/ipv6/",
        };
        if let Err(error) = self.settings.restore_below(path) {
            warn!("{error}");
        }
        if self.settings.is_empty() {
            let _ = fs::remove_file(&self.file);
        } else if let Err(error) = self.remember() {
            warn!("{error}");
        }
    }

    fn forward(
        &mut self,
        name: &str,
        family: Family,
        netlink: &mut Netlink,
    ) -> Result<(), RoutingError> {
        let setting = match family {
            Family::V4 => {
                warn_of_filters_of_marks(name);
                Some(Sysctl::ipv4_conf(name, "forwarding"))
            }
            Family::V6 => setting_of_ipv6(name, netlink)?,
        };
        let Some(setting) = setting else {
            return Ok(());
        };
        if !self.settings.note(&setting, "1")? {
            return Ok(());
        }
        self.remember()?;
        info!(
            "packets from {name} are forwarded as long as there are services by mark: {} is 1",
            setting.path()
        );
        Ok(setting.write("1")?)
    }

    fn remember(&self) -> Result<(), RoutingError> {
        let failed = |source| RoutingError::Remember {
            path: self.file.clone(),
            source,
        };
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let text = serde_json::to_string(&self.settings).map_err(io::Error::from);
        fs::write(&self.file, text.map_err(failed)?).map_err(failed)
    }
}

/// By which setting IPv6 from an interface is forwarded; none if it is anyway.
fn setting_of_ipv6(name: &str, netlink: &mut Netlink) -> Result<Option<Sysctl>, RoutingError> {
    let whole = Sysctl::ipv6_conf("all", "forwarding");
    // An interface that is not there says so.
    Sysctl::ipv6_conf(name, "forwarding").read()?;
    if whole.read()? == "1" {
        return Ok(None);
    }
    let alone = Sysctl::ipv6_conf(name, "force_forwarding");
    if alone.read().is_ok() {
        return Ok(Some(alone));
    }
    let advertised = netlink
        .routes(Family::V6)?
        .into_iter()
        .filter(|route| route.protocol == RTPROT_RA && route.destination.length == 0);
    for route in advertised {
        let link = route.link.map(|link| netlink.link_by_index(link));
        let Some(link) = link.transpose()?.flatten() else {
            continue;
        };
        // 2: although the host forwards.
        let accepts = Sysctl::ipv6_conf(&link.name, "accept_ra").read();
        if accepts.is_ok_and(|accepts| accepts != "2") {
            return Err(RoutingError::Advertised(link.name));
        }
    }
    Ok(Some(whole))
}

/// What comes in with a mark may be looked at as if it had come from elsewhere.
fn warn_of_filters_of_marks(name: &str) {
    let is = |setting: &str, value: &str| {
        let any = ["all", name].map(|name| Sysctl::ipv4_conf(name, setting).read());
        any.iter()
            .any(|read| read.as_deref().is_ok_and(|read| read == value))
    };
    if is("rp_filter", "1") && is("src_valid_mark", "1") {
        warn!(
            "{name} has rp_filter=1 and src_valid_mark=1: the host drops marked packets there; set \
             net.ipv4.conf.{name}.rp_filter=2"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use shared::sys::namespace::Namespace;

    fn ip(words: &str) {
        let status = Command::new("ip").args(words.split(' ')).status();
        assert!(status.unwrap().success(), "ip {words}");
    }

    /// Newer kernels forward by interface; with older ones that a host forwards must not cost it its own way out.
    #[test]
    fn a_host_that_lives_by_advertisements_is_not_made_a_router() {
        let in_namespace = || {
            let mut netlink = Netlink::open().unwrap();
            let mut setting = || setting_of_ipv6("v0", &mut netlink);
            let absent = setting().unwrap_err();
            assert!(matches!(&absent, RoutingError::Sysctl(error) if error.is_missing()));
            ip("link add v0 type veth peer name v1");
            ip("link set v1 up");
            ip("link set v0 up");
            ip("-6 route add default via fe80::1 dev v0 proto ra");
            let alone = Sysctl::ipv6_conf("v0", "force_forwarding");
            let whole = Sysctl::ipv6_conf("all", "forwarding");
            if alone.read().is_ok() {
                assert_eq!(setting().unwrap(), Some(alone));
            } else {
                let refused = setting().unwrap_err().to_string();
                assert!(
                    refused.contains("set net.ipv6.conf.v0.accept_ra=2 and "),
                    "{refused}"
                );
                Sysctl::ipv6_conf("v0", "accept_ra").write("2").unwrap();
                assert_eq!(setting().unwrap(), Some(whole.clone()));
            }
            whole.write("1").unwrap();
            assert_eq!(setting().unwrap(), None, "it forwards anyway");
        };
        Namespace::new().unwrap().run(in_namespace).unwrap();
    }

    #[test]
    fn each_family_is_put_back_alone() {
        let in_namespace = || {
            ip("link add v0 type veth peer name v1");
            ip("link add narrow mtu 1000 type veth peer name v2");
            let file = std::env::temp_dir().join(format!("lvs-forwarding-{}", std::process::id()));
            let mut netlink = Netlink::open().unwrap();
            let mut forwarding = Forwarding::new(file.clone());
            forwarding.interface("v0", &mut netlink);
            forwarding.interface("vanished", &mut netlink);
            forwarding.interface("narrow", &mut netlink);
            let four = Sysctl::ipv4_conf("v0", "forwarding");
            let six = setting_of_ipv6("v0", &mut netlink).unwrap().unwrap();
            let values = || [&four, &six].map(|setting| setting.read().unwrap());
            for family in [Family::V6, Family::V4] {
                forwarding.begin(family, "lvs0", &mut netlink).unwrap();
            }
            assert_eq!(values(), ["1", "1"]);
            let narrow = Sysctl::ipv4_conf("narrow", "forwarding");
            assert_eq!(narrow.read().unwrap(), "1");
            // Another director finds what a killed one has changed.
            let mut forwarding = Forwarding::new(file.clone());
            forwarding.end(Family::V6);
            assert_eq!(values(), ["1", "0"]);
            let mut forwarding = Forwarding::new(file.clone());
            forwarding.end(Family::V4);
            assert_eq!(values(), ["0", "0"]);
            assert!(!file.exists());
        };
        Namespace::new().unwrap().run(in_namespace).unwrap();
    }
}
