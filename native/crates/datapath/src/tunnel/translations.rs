//! What one client's proxy addresses stand for (data-plane §5.4).
//!
//! The client chose the proxy addresses, the names and how many of both there are; whoever holds a name's zone chose the real
//! addresses. So nothing is taken over that [`Translations::check`] has not seen, and a translation by itself opens nothing: it
//! counts as long as a grant that it was made under lasts.
//!
//! A name keeps its proxy addresses after the grant's end, so that an address which comes back under another name is
//! noticed even then: flows of the former name must not be carried on under the new one.
//!
//! A client that lives for weeks asks for any number of names. When there are too many, those that it announced longest ago
//! make room, except for addresses that flows lead to. Our client forgets names in the same order, and earlier: it knows
//! 4,096, and announces a name again whenever a program asks for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::address_plan::{is_proxy_address, is_sentinel, is_translatable};
use super::route_table::ResourceId;
use super::seeded_hash::SeededState;
use super::steps;

/// What a client gives a name: this many of one family, or of both (data-plane §4.8).
const ADDRESSES_PER_FAMILY: usize = 4;
/// Of a client, all names together; ours. 8,192 names of both families.
pub const MAX_ADDRESSES: usize = 65_536;
/// How many of the addresses announced longest ago are looked at to make room for one name.
const LOOKED_AT: usize = 32;
/// RFC 1035 §2.3.4, as text without the last dot.
const MAX_NAME: usize = 253;

/// One proxy address and what it stands for; `None`: the name has no address of the family.
pub type Pair = (IpAddr, Option<IpAddr>);

#[derive(Debug)]
pub struct Translations {
    by_proxy: HashMap<IpAddr, Translation, SeededState>,
    /// One entry per address; the one announced longest ago first.
    by_age: BTreeSet<(Announcement, IpAddr)>,
    last_announcement: Announcement,
}

/// Announcements of one client in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Announcement(u64);

#[derive(Debug)]
pub struct Translation {
    pub name: Arc<str>,
    pub real: Option<IpAddr>,
    /// The resources that the name was assigned under, each with the grant of that moment.
    pub granted_by: BTreeMap<ResourceId, GrantSerial>,
    announced: Announcement,
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
            by_age: BTreeSet::new(),
            last_announcement: Announcement::default(),
        }
    }

    pub fn get(&self, proxy: IpAddr) -> Option<&Translation> {
        self.by_proxy.get(&proxy)
    }

    /// Why these may not be translated, if so.
    pub fn check(name: &str, pairs: &[Pair]) -> Result<(), &'static str> {
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
        Ok(())
    }

    /// Forget as many of the addresses announced longest ago as these need, but none that `is_used` by a flow.
    pub fn make_room(
        &mut self,
        name: &str,
        pairs: &[Pair],
        is_used: impl Fn(IpAddr) -> bool,
    ) -> Result<(), &'static str> {
        let is_unknown = |(proxy, _): &&Pair| !self.by_proxy.contains_key(proxy);
        let wanted = self.by_proxy.len() + pairs.iter().filter(is_unknown).count();
        let Some(surplus) = wanted.checked_sub(MAX_ADDRESSES) else {
            return Ok(());
        };
        if self.renumbers(name, pairs) {
            return Ok(());
        }
        let is_announced = |address| pairs.iter().any(|(proxy, _)| *proxy == address);
        let oldest = self.by_age.iter().map(|(_, address)| *address);
        let (used, unused): (Vec<IpAddr>, Vec<IpAddr>) = oldest
            .take(LOOKED_AT)
            .inspect(|_| steps::count(1))
            .filter(|address| !is_announced(*address))
            .partition(|address| is_used(*address));
        let has_room = unused.len() >= surplus;
        if has_room {
            for address in &unused[..surplus] {
                self.forget(*address);
            }
        }
        // The next name finds others in their place.
        let announced = self.next_announcement();
        for address in used {
            self.renew(address, announced);
        }
        has_room
            .then_some(())
            .ok_or("the client has too many names in use")
    }

    /// Let a name's proxy addresses stand for these from now on. [`Translations::check`] has admitted them, and
    /// [`Translations::make_room`] has made room; a former grant counts only if it `is_held`.
    pub fn replace(
        &mut self,
        resource: &ResourceId,
        serial: GrantSerial,
        name: &str,
        pairs: &[Pair],
        is_held: impl Fn(&ResourceId, GrantSerial) -> bool,
    ) -> Replaced {
        let replaced = if self.renumbers(name, pairs) {
            self.by_proxy.clear();
            self.by_age.clear();
            Replaced::Renumbered
        } else {
            Replaced::SameNames
        };
        let announced = self.next_announcement();
        let name: Arc<str> = name.into();
        for (proxy, real) in pairs {
            let translation = self.by_proxy.entry(*proxy).or_insert_with(|| Translation {
                name: name.clone(),
                real: None,
                granted_by: BTreeMap::new(),
                announced,
            });
            translation.real = *real;
            translation
                .granted_by
                .retain(|resource, serial| is_held(resource, *serial));
            translation.granted_by.insert(resource.clone(), serial);
            self.renew(*proxy, announced);
        }
        replaced
    }

    fn next_announcement(&mut self) -> Announcement {
        self.last_announcement.0 += 1;
        self.last_announcement
    }

    fn renew(&mut self, address: IpAddr, announced: Announcement) {
        if let Some(translation) = self.by_proxy.get_mut(&address) {
            self.by_age.remove(&(translation.announced, address));
            self.by_age.insert((announced, address));
            translation.announced = announced;
        }
    }

    fn forget(&mut self, address: IpAddr) {
        if let Some(translation) = self.by_proxy.remove(&address) {
            self.by_age.remove(&(translation.announced, address));
        }
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
        Translations::new(SeededState::new([
            0x5ca1_ab1e_0ddb_a115,
            0xdead_10cc_cafe_f00d,
        ]))
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
                Translations::check(NAME, &four(hostile)).is_err(),
                "{hostile}"
            );
        }
        for good in ["100.96.0.0", "100.100.112.0", "100.127.255.255"] {
            assert_eq!(Translations::check(NAME, &four(good)), Ok(()), "{good}");
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
            assert!(Translations::check(NAME, &pairs).is_err(), "{hostile}");
        }
    }

    #[test]
    fn a_name_has_four_or_eight_different_addresses() {
        let all: Vec<String> = (1..=9).map(|last| format!("100.96.0.{last}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        for count in 0..=9 {
            let admitted = Translations::check(NAME, &pairs(&all[..count], "10.3.0.1")).is_ok();
            assert_eq!(admitted, count == 4 || count == 8, "{count}");
        }
        assert!(Translations::check(NAME, &four("100.96.0.1")).is_err());
    }

    #[test]
    fn what_a_zone_answers_cannot_lead_to_special_addresses() {
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
                Translations::check(NAME, &pairs(&proxies, real)).is_err(),
                "{real}"
            );
        }
        for real in ["10.3.0.1", "192.168.1.1", "8.8.8.8"] {
            assert_eq!(Translations::check(NAME, &pairs(&proxies, real)), Ok(()));
        }
    }

    const NAMES: u32 = (MAX_ADDRESSES / 8) as u32;

    fn eight(index: u32) -> Vec<Pair> {
        let first = u32::from_be_bytes([100, 101, 0, 0]) + 8 * index;
        (first..first + 8)
            .map(|bits| (std::net::Ipv4Addr::from_bits(bits).into(), None))
            .collect()
    }

    fn announce(
        translations: &mut Translations,
        index: u32,
        is_used: impl Fn(IpAddr) -> bool,
    ) -> Result<(), &'static str> {
        let (name, pairs) = (format!("n{index}.example"), eight(index));
        Translations::check(&name, &pairs)?;
        translations.make_room(&name, &pairs, is_used)?;
        translations.replace(&"app".into(), GrantSerial(1), &name, &pairs, |_, _| true);
        assert!(translations.by_proxy.len() <= MAX_ADDRESSES);
        assert_eq!(translations.by_age.len(), translations.by_proxy.len());
        Ok(())
    }

    fn full() -> Translations {
        let mut translations = translations();
        for index in 0..NAMES {
            announce(&mut translations, index, |_| false).unwrap();
        }
        translations
    }

    fn known(translations: &Translations, index: u32) -> usize {
        let pairs = eight(index);
        let is_known = |(proxy, _): &&Pair| translations.get(*proxy).is_some();
        pairs.iter().filter(is_known).count()
    }

    #[test]
    fn names_announced_longest_ago_make_room_for_new_ones() {
        let mut translations = full();
        announce(&mut translations, 0, |_| false).unwrap();
        for index in NAMES..NAMES + 100 {
            let (announced, cost) = steps::of(|| announce(&mut translations, index, |_| false));
            assert_eq!(announced, Ok(()));
            assert!(cost <= LOOKED_AT, "{cost}");
        }
        assert_eq!(known(&translations, 0), 8, "announced again");
        for gone in 1..=100 {
            assert_eq!(known(&translations, gone), 0, "{gone}");
        }
        for kept in 101..NAMES + 100 {
            assert_eq!(known(&translations, kept), 8, "{kept}");
        }
    }

    #[test]
    fn addresses_that_flows_lead_to_do_not_make_room() {
        let mut translations = full();
        let used: Vec<IpAddr> = (0..50).map(|index| eight(index)[3].0).collect();
        let is_used = |address| used.contains(&address);
        for index in NAMES..2 * NAMES - 100 {
            assert_eq!(announce(&mut translations, index, is_used), Ok(()));
        }
        for index in 0..50 {
            assert_eq!(known(&translations, index), 1, "{index}");
        }
    }

    #[test]
    fn a_client_that_uses_all_its_names_gets_no_more_until_it_numbers_anew() {
        let mut translations = full();
        let (refused, cost) = steps::of(|| announce(&mut translations, NAMES, |_| true));
        assert!(refused.is_err());
        assert!(cost <= LOOKED_AT, "{cost}");
        assert_eq!(translations.by_proxy.len(), MAX_ADDRESSES);
        assert_eq!(announce(&mut translations, 7, |_| true), Ok(()));
        let other = "other.example";
        translations.make_room(other, &eight(7), |_| true).unwrap();
        let held = |_: &ResourceId, _| true;
        let replaced = translations.replace(&"app".into(), GrantSerial(1), other, &eight(7), held);
        assert_eq!(replaced, Replaced::Renumbered);
        assert_eq!(translations.by_proxy.len(), 8);
        assert_eq!(translations.by_age.len(), 8);
    }

    #[test]
    fn unused_addresses_are_found_behind_any_number_of_used_ones() {
        let mut translations = full();
        let last = eight(NAMES - 1);
        let is_used = |address| last.iter().all(|(proxy, _)| *proxy != address);
        let announced = (0..MAX_ADDRESSES / LOOKED_AT)
            .find(|_| announce(&mut translations, NAMES, is_used).is_ok());
        assert!(announced.is_some());
        assert_eq!(known(&translations, NAMES - 1), 0);
    }

    #[test]
    fn a_name_remembers_no_more_grants_than_are_held() {
        let mut translations = translations();
        for number in 1..100 {
            let resource: ResourceId = format!("app-{number}").into();
            let is_held = |_: &ResourceId, serial: GrantSerial| serial.0 + 1 == number;
            translations.replace(
                &resource,
                GrantSerial(number),
                NAME,
                &four("100.96.0.4"),
                is_held,
            );
        }
        let translation = translations.get("100.96.0.4".parse().unwrap()).unwrap();
        let remembered: Vec<u64> = translation
            .granted_by
            .values()
            .map(|serial| serial.0)
            .collect();
        assert_eq!(remembered, [98, 99]);
    }

    #[test]
    fn names_are_no_longer_than_names_can_be() {
        for (length, admitted) in [(0, false), (1, true), (253, true), (254, false)] {
            let name = "n".repeat(length);
            let is_admitted = Translations::check(&name, &four("100.96.0.4")).is_ok();
            assert_eq!(is_admitted, admitted, "{length}");
        }
    }
}
