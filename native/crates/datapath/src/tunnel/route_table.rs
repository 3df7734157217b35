//! Which resource a packet belongs to when several cover its address (data-plane §4.2).

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::filter_set::{FilterSet, Traffic};
use super::prefix_map::PrefixMap;
use super::steps;
use crate::prefix::Prefix;

pub type ResourceId = Arc<str>;

/// One resource's claim to a prefix.
#[derive(Clone, Debug)]
pub struct Route {
    pub resource: ResourceId,
    pub filters: Arc<FilterSet>,
    /// Order of name patterns; smaller is more specific.
    pub rank: i64,
    /// From this instant on the route does not exist.
    pub deadline: Option<Instant>,
    /// What a grant's flows are recorded under; in a table of grants only.
    pub record_under: Option<Arc<str>>,
}

/// The best route to an address.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    pub route: &'a Route,
    /// Whether its filters admit the packet; a denying route is the answer only where none admits.
    pub permitted: bool,
}

#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// Of each prefix in the order of resource ids, one for each.
    routes: PrefixMap<Vec<Route>>,
}

impl RouteTable {
    /// Add or replace a resource's claim to a prefix; whether it is new.
    pub fn insert(&mut self, prefix: Prefix, route: Route) -> bool {
        let routes = self.routes.entry(prefix);
        match position(routes, &route.resource) {
            Ok(at) => {
                routes[at] = route;
                false
            }
            Err(at) => {
                routes.insert(at, route);
                true
            }
        }
    }

    /// Remove a resource's claim to a prefix; whether it was there.
    pub fn remove(&mut self, prefix: Prefix, resource: &str) -> bool {
        let Some(routes) = self.routes.get_mut(prefix) else {
            return false;
        };
        let Ok(at) = position(routes, resource) else {
            return false;
        };
        routes.remove(at);
        if routes.is_empty() {
            self.routes.remove(prefix);
        }
        true
    }

    /// Whether a resource claims exactly this prefix.
    pub fn contains(&self, prefix: Prefix, resource: &str) -> bool {
        self.routes
            .get(prefix)
            .is_some_and(|routes| position(routes, resource).is_ok())
    }

    /// The best live route: one that permits, then smaller rank, then longer prefix, then greater resource id.
    pub fn best(&self, address: IpAddr, traffic: Traffic, now: Instant) -> Option<Match<'_>> {
        self.routes
            .covering(address)
            .flat_map(|(length, routes)| routes.iter().map(move |route| (length, route)))
            .inspect(|_| steps::count(1))
            .filter(|(_, route)| route.deadline.is_none_or(|deadline| now < deadline))
            .map(|(length, route)| {
                let permitted = route.filters.permits(traffic);
                (length, Match { route, permitted })
            })
            .max_by_key(|(length, found)| {
                let route = found.route;
                (
                    found.permitted,
                    Reverse(route.rank),
                    *length,
                    &route.resource,
                )
            })
            .map(|(_, found)| found)
    }
}

fn position(routes: &[Route], resource: &str) -> Result<usize, usize> {
    routes.binary_search_by(|route| {
        steps::count(1);
        (*route.resource).cmp(resource)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Filter, FilterProtocol};
    use crate::tunnel::test_clock::an_instant;
    use std::time::Duration;

    const SSH: Traffic = Traffic::Tcp(22);

    fn route(resource: &str, rank: i64, ports: Option<(u16, u16)>) -> Route {
        let filters = ports.map(|(first_port, last_port)| Filter {
            protocol: FilterProtocol::Tcp,
            first_port,
            last_port,
        });
        Route {
            resource: resource.into(),
            filters: Arc::new(FilterSet::new(filters.into_iter().collect())),
            rank,
            deadline: None,
            record_under: None,
        }
    }

    fn table(routes: Vec<(&str, Route)>) -> RouteTable {
        let mut table = RouteTable::default();
        for (prefix, route) in routes {
            table.insert(prefix.parse().unwrap(), route);
        }
        table
    }

    fn best(table: &RouteTable, now: Instant) -> Option<(String, bool)> {
        let address = "10.1.2.3".parse().unwrap();
        table
            .best(address, SSH, now)
            .map(|found| (found.route.resource.to_string(), found.permitted))
    }

    #[test]
    fn a_permitting_wide_route_beats_a_denying_narrow_one() {
        let table = table(vec![
            ("10.1.2.3/32", route("narrow", 0, Some((80, 80)))),
            ("10.0.0.0/8", route("wide", 0, None)),
        ]);
        assert_eq!(best(&table, an_instant()), Some(("wide".into(), true)));
    }

    #[test]
    fn a_denying_route_is_found_when_nothing_permits() {
        let table = table(vec![("10.0.0.0/8", route("only", 0, Some((80, 80))))]);
        assert_eq!(best(&table, an_instant()), Some(("only".into(), false)));
    }

    #[test]
    fn rank_beats_length_and_length_beats_id() {
        let now = an_instant();
        let ranked = table(vec![
            ("10.1.2.3/32", route("z", 1, None)),
            ("10.0.0.0/8", route("a", 0, None)),
        ]);
        assert_eq!(best(&ranked, now), Some(("a".into(), true)));
        let lengths = table(vec![
            ("10.1.0.0/16", route("a", 0, None)),
            ("10.0.0.0/8", route("z", 0, None)),
        ]);
        assert_eq!(best(&lengths, now), Some(("a".into(), true)));
        let ids = table(vec![
            ("10.0.0.0/8", route("b", 0, None)),
            ("10.0.0.0/8", route("a", 0, None)),
        ]);
        assert_eq!(best(&ids, now), Some(("b".into(), true)));
    }

    #[test]
    fn a_resource_claims_a_prefix_once() {
        let prefix = "10.0.0.0/8".parse().unwrap();
        let mut table = RouteTable::default();
        for resource in ["b", "c", "a"] {
            assert!(table.insert(prefix, route(resource, 0, None)));
        }
        assert!(!table.insert(prefix, route("b", 0, Some((22, 22)))));
        assert!(!table.remove("10.0.0.0/9".parse().unwrap(), "b"));
        for resource in ["c", "b", "a"] {
            assert_eq!(best(&table, an_instant()), Some((resource.into(), true)));
            assert!(table.contains(prefix, resource));
            assert!(table.remove(prefix, resource));
            assert!(!table.contains(prefix, resource));
            assert!(!table.remove(prefix, resource));
        }
        assert_eq!(best(&table, an_instant()), None);
    }

    #[test]
    fn a_route_ends_at_its_deadline() {
        let now = an_instant();
        let deadline = now + Duration::from_secs(5);
        let ending = Route {
            deadline: Some(deadline),
            ..route("ending", 0, None)
        };
        let table = table(vec![
            ("10.1.2.3/32", ending),
            ("10.0.0.0/8", route("lasting", 0, None)),
        ]);
        let before = deadline - Duration::from_nanos(1);
        assert_eq!(best(&table, before), Some(("ending".into(), true)));
        assert_eq!(best(&table, deadline), Some(("lasting".into(), true)));
    }
}
