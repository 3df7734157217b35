//! Relays by their number in the node.

use std::collections::BTreeMap;

use super::links::NodeId;

#[derive(Debug, Default)]
pub struct RelayNames {
    numbers: BTreeMap<String, NodeId>,
    names: BTreeMap<NodeId, String>,
    last: NodeId,
}

impl RelayNames {
    pub fn number(&mut self, name: &str) -> NodeId {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(name.to_owned(), self.last);
        self.names.insert(self.last, name.to_owned());
        self.last
    }

    pub fn forget(&mut self, is_gone: impl Fn(&String) -> bool) {
        self.numbers.retain(|name, _| !is_gone(name));
        self.names.retain(|_, name| !is_gone(name));
    }

    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.numbers.get(name).copied()
    }

    pub fn name(&self, number: NodeId) -> String {
        self.names.get(&number).cloned().unwrap_or_default()
    }
}
