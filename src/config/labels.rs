//! What listeners, routes and backends are called in metrics, logs and the admin API where no name is written.

use super::schema::{BackendSettings, ListenerConfig, RouteSettings};
use super::values::Name;

impl ListenerConfig {
    /// Its name, or its address.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.to_string(), Name::to_string)
    }
}

impl RouteSettings {
    /// Its name, or `route-N`: N is its place in the file, from 1; `index` counts from 0.
    pub fn label(&self, index: usize) -> String {
        self.name.as_ref().map_or_else(|| format!("route-{}", index + 1), Name::to_string)
    }
}

impl BackendSettings {
    /// Its name, or its address.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.to_string(), Name::to_string)
    }
}
