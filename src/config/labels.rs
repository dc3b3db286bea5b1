//! Labels of listeners, routes and backends in metrics, logs and the admin API: the name, or a default.

use super::schema::{BackendSettings, ListenerConfig, RouteSettings};
use super::values::Name;

impl ListenerConfig {
    /// The name, or the address.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.to_string(), Name::to_string)
    }
}

impl RouteSettings {
    /// The name, or `route-N`. N is the position in the file, from 1; `index` counts from 0.
    pub fn label(&self, index: usize) -> String {
        self.name.as_ref().map_or_else(|| format!("route-{}", index + 1), Name::to_string)
    }
}

impl BackendSettings {
    /// The name, or the address.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.to_string(), Name::to_string)
    }
}
