//! What one client's proxy addresses stand for (data-plane §5.4).
//!
//! The client chose the proxy addresses, the names and how many of both there are; whoever holds a name's zone chose the real
//! addresses. So nothing is taken over that [`Translations::check`] has not seen, and a translation by itself opens nothing: it
//! counts as long as a grant that it was made under lasts.
//!
//! A name keeps its proxy addresses after the grant's end, so that an address which comes back under another name is
//! noticed even then: flows of the former name must not be carried on under the new one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::address_plan::{is_proxy_address, is_sentinel, is_translatable};
use super::route_table::ResourceId;
use super::seeded_hash::SeededState;

/// What a client gives a name: this many of one family, or of both (data-plane §4.8).
const ADDRESSES_PER_FAMILY: usize = 4;
/// Of a client, all names together; ours. 8,192 names of both families.
pub const MAX_ADDRESSES: usize = 65_536;
/// RFC 1035 §2.3.4, as text without the last dot.
const MAX_NAME: usize = 253;

/// One proxy address and what it stands for; `None`: the name has no address of the family.
pub type Pair = (IpAddr, Option<IpAddr>);

#[derive(Debug)]
pub struct Translations {
    by_proxy: HashMap<IpAddr, Translation, SeededState>,
}

#[derive(Debug)]
pub struct Translation {
    name: Arc<str>,
    pub real: Option<IpAddr>,
    /// The resources that the name was assigned under, each with the grant of that moment.
    pub granted_by: BTreeMap<ResourceId, GrantSerial>,
}

/// Tells one grant of a resource from a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantSerial(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    SameNames,
    /// An address had belonged to another name: all translations were forgotten before (data-plane §5.4).
    Renumbered,
}

impl Translations {
    pub fn new(hash: SeededState) -> Self {
        Self {
            by_proxy: HashMap::with_hasher(hash),
        }
    }

    pub fn get(&self, proxy: IpAddr) -> Option<&Translation> {
        self.by_proxy.get(&proxy)
    }

    /// Why these may not be translated, if so.
    pub fn check(&self, name: &str, pairs: &[Pair]) -> Result<(), &'static str> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err("a name has 1 to 253 characters");
        }
        let distinct: BTreeSet<IpAddr> = pairs.iter().map(|(proxy, _)| *proxy).collect();
        if ![ADDRESSES_PER_FAMILY, 2 * ADDRESSES_PER_FAMILY].contains(&pairs.len())
            || distinct.len() < pairs.len()
        {
            return Err("a name has 4 or 8 different proxy addresses");
        }
        for (proxy, real) in pairs {
            if !is_proxy_address(*proxy) || is_sentinel(*proxy) {
                return Err("an address outside the proxy ranges cannot stand for another");
            }
            if real.is_some_and(|real| real.is_ipv4() != proxy.is_ipv4()) {
                return Err("a proxy address can only stand for one of its own family");
            }
            if real.is_some_and(|real| !is_translatable(real)) {
                return Err("a proxy address cannot stand for a special address");
            }
        }
        let unknown = pairs
            .iter()
            .filter(|(proxy, _)| !self.by_proxy.contains_key(proxy));
        if !self.renumbers(name, pairs) && self.by_proxy.len() + unknown.count() > MAX_ADDRESSES {
            return Err("the client has too many names");
        }
        Ok(())
    }

    /// Let a name's proxy addresses stand for these from now on. [`Translations::check`] has admitted them.
    pub fn replace(
        &mut self,
        resource: &ResourceId,
        serial: GrantSerial,
        name: &str,
        pairs: &[Pair],
    ) -> Replaced {
        let replaced = if self.renumbers(name, pairs) {
            self.by_proxy.clear();
            Replaced::Renumbered
        } else {
            Replaced::SameNames
        };
        let name: Arc<str> = name.into();
        for (proxy, real) in pairs {
            let translation = self.by_proxy.entry(*proxy).or_insert_with(|| Translation {
                name: name.clone(),
                real: None,
                granted_by: BTreeMap::new(),
            });
            translation.real = *real;
            translation.granted_by.insert(resource.clone(), serial);
        }
        replaced
    }

    fn renumbers(&self, name: &str, pairs: &[Pair]) -> bool {
        pairs.iter().any(|(proxy, _)| {
            self.by_proxy
                .get(proxy)
                .is_some_and(|known| &*known.name != name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "app.example";

    fn translations() -> Translations {
        Translations::new(SeededState::new([1, 2]))
    }

    fn pairs(proxies: &[&str], real: &str) -> Vec<Pair> {
        let real = real.parse().unwrap();
        let pair = |proxy: &&str| (proxy.parse().unwrap(), Some(real));
        proxies.iter().map(pair).collect()
    }

    fn four(last: &str) -> Vec<Pair> {
        pairs(
            &["100.96.0.1", "100.96.0.2", "100.96.0.3", last],
            "10.3.0.1",
        )
    }

    #[test]
    fn only_addresses_of_the_proxy_ranges_stand_for_others() {
        let translations = translations();
        for hostile in [
            "10.66.6.6",
            "169.254.169.254",
            "8.8.8.8",
            "100.64.0.1",
            "100.95.255.255",
            "100.128.0.0",
            "100.100.111.1",
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
        ] {
            assert!(
                translations.check(NAME, &four(hostile)).is_err(),
                "{hostile}"
            );
        }
        for good in ["100.96.0.0", "100.100.112.0", "100.127.255.255"] {
            assert_eq!(translations.check(NAME, &four(good)), Ok(()), "{good}");
        }
        for (hostile, real) in [
            ("fd00:2021:1111::1", "2001:db8::1"),
            ("fd00:2021:1111:8000:100:100:111:0", "2001:db8::1"),
            ("fd00:2021:1111:8000::20:0", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::", "2001:db8::1"),
        ] {
            let mut pairs = pairs(
                &[
                    "fd00:2021:1111:8000::",
                    "fd00:2021:1111:8000::1",
                    "fd00:2021:1111:8000::2",
                ],
                real,
            );
            pairs.push((hostile.parse().unwrap(), None));
            assert!(translations.check(NAME, &pairs).is_err(), "{hostile}");
        }
    }

    #[test]
    fn a_name_has_four_or_eight_different_addresses() {
        let translations = translations();
        let all: Vec<String> = (1..=9).map(|last| format!("100.96.0.{last}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        for count in 0..=9 {
            let admitted = translations
                .check(NAME, &pairs(&all[..count], "10.3.0.1"))
                .is_ok();
            assert_eq!(admitted, count == 4 || count == 8, "{count}");
        }
        assert!(translations.check(NAME, &four("100.96.0.1")).is_err());
    }

    #[test]
    fn what_a_zone_answers_cannot_lead_to_special_addresses() {
        let translations = translations();
        let proxies = ["100.96.0.1", "100.96.0.2", "100.96.0.3", "100.96.0.4"];
        for real in [
            "127.0.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "100.64.0.7",
            "100.96.0.9",
            "2001:db8::1",
        ] {
            assert!(
                translations.check(NAME, &pairs(&proxies, real)).is_err(),
                "{real}"
            );
        }
        for real in ["10.3.0.1", "192.168.1.1", "8.8.8.8"] {
            assert_eq!(translations.check(NAME, &pairs(&proxies, real)), Ok(()));
        }
    }

    #[test]
    fn a_client_has_so_many_addresses_and_no_more_until_it_numbers_anew() {
        let mut translations = translations();
        let resource: ResourceId = "app".into();
        let serial = GrantSerial(1);
        let eight = |index: u32| -> Vec<Pair> {
            let first = u32::from_be_bytes([100, 101, 0, 0]) + 8 * index;
            (first..first + 8)
                .map(|bits| (std::net::Ipv4Addr::from_bits(bits).into(), None))
                .collect()
        };
        let names = (MAX_ADDRESSES / 8) as u32;
        for index in 0..names {
            let name = format!("n{index}.example");
            translations.check(&name, &eight(index)).unwrap();
            translations.replace(&resource, serial, &name, &eight(index));
        }
        assert!(translations.check("one.more", &eight(names)).is_err());
        assert_eq!(translations.check("n7.example", &eight(7)), Ok(()));
        assert_eq!(translations.check("other.example", &eight(7)), Ok(()));
        let replaced = translations.replace(&resource, serial, "other.example", &eight(7));
        assert_eq!(replaced, Replaced::Renumbered);
        assert_eq!(translations.by_proxy.len(), 8);
    }

    #[test]
    fn names_are_no_longer_than_names_can_be() {
        let translations = translations();
        for (length, admitted) in [(0, false), (1, true), (253, true), (254, false)] {
            let name = "n".repeat(length);
            let is_admitted = translations.check(&name, &four("100.96.0.4")).is_ok();
            assert_eq!(is_admitted, admitted, "{length}");
        }
    }
}
