//! Readiness checks of well-known images: proposals, since compose files have none.

use super::super::super::node::Node;
use super::super::translate::repository;

/// Images, each with its check. A port that the program only opens when it serves is enough; while it initializes its
/// data, PostgreSQL, MySQL and MariaDB listen on a socket in the container only.
const KNOWN: [(&[&str], &str); 16] = [
    (&["postgres", "postgis/postgis", "pgvector/pgvector", "timescale/timescaledb"], "tcp: 5432"),
    (&["mysql", "mariadb", "percona"], "tcp: 3306"),
    (&["mongo"], "tcp: 27017"),
    (&["redis", "valkey/valkey", "eqalpha/keydb"], "exec: [redis-cli, ping]"),
    (&["memcached"], "tcp: 11211"),
    (&["rabbitmq"], "tcp: 5672"),
    (&["nats"], "tcp: 4222"),
    (&["nginx", "httpd", "caddy"], "tcp: 80"),
    (&["registry"], "http: {port: 5000, path: /v2/}"),
    (&["minio/minio"], "http: {port: 9000, path: /minio/health/ready}"),
    (&["grafana/grafana", "grafana/grafana-oss"], "http: {port: 3000, path: /api/health}"),
    (&["prom/prometheus"], "http: {port: 9090, path: /-/ready}"),
    (&["prom/alertmanager"], "http: {port: 9093, path: /-/ready}"),
    (&["clickhouse/clickhouse-server"], "http: {port: 8123, path: /ping}"),
    (&["influxdb"], "http: {port: 8086, path: /health}"),
    (&["hashicorp/consul", "consul"], "http: {port: 8500, path: /v1/status/leader}"),
];

/// Returns the `ping` to propose for a document: of a service that has no check, and whose command does not move its
/// port.
pub(super) fn proposal(document: &Node) -> Option<String> {
    let has = |key: &str| document.get(key).is_some();
    let is_none = document.get("network_mode").and_then(Node::text) == Some("none");
    if has("kind") || has("ping") || has("healthcheck") || has("build") || is_none {
        return None;
    }
    let words = ["command", "entrypoint"].into_iter().filter_map(|key| document.get(key));
    if words.flat_map(Node::items).any(|word| word.text().is_some_and(|word| word.contains("port"))) {
        return None;
    }
    let name = name_on_hub(document.get("image")?.text()?);
    let (_, check) = KNOWN.iter().find(|(images, _)| images.contains(&name))?;
    Some(format!("ping: {{{check}}}"))
}

/// Returns the name of an image on Docker Hub, without tag and digest.
fn name_on_hub(image: &str) -> &str {
    let image = repository(image);
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    image.strip_prefix("library/").unwrap_or(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_on_docker_hub() {
        for (image, expected) in [
            ("postgres", "postgres"),
            ("docker.io/library/postgres:16@sha256:00", "postgres"),
            ("ghcr.io/x/postgres:1", "ghcr.io/x/postgres"),
            ("localhost:5000/postgres", "localhost:5000/postgres"),
            ("minio/minio:latest", "minio/minio"),
        ] {
            assert_eq!(name_on_hub(image), expected);
        }
    }
}
