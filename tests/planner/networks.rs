//! Several networks, external ones, fixed addresses, and containers on no network of the group.

use drillmaster::capabilities::{ApiVersion, EngineKind};
use drillmaster::desired::{AddressRange, Desired, Endpoint, Network, Placement};
use drillmaster::observed::{NetworkSettings, Observed};
use drillmaster::plan::step::Verb;
use drillmaster::plan::{Memory, forecast};

use crate::builders::*;

/// A service on the group's network and `back`.
fn on_two(name: &str) -> Build {
    service(name).networks(&[GROUP, "shop_back"])
}

fn with_back(services: impl IntoIterator<Item = Build>, back: Network) -> Desired {
    let mut wanted = desired(services);
    wanted.networks.insert("shop_back".into(), Network { location: "group.yaml:4".into(), ..back });
    wanted
}

/// An engine before API 1.44.
fn old_engine(mut observed: Observed) -> Observed {
    observed.capabilities.api = ApiVersion(1, 41);
    observed
}

#[test]
fn networks_are_created_and_joined_at_once() {
    let wanted = with_back([on_two("api"), service("web")], Network::default());
    check(
        &wanted,
        &empty(&wanted),
        "
        create api [container]
        create web [container]
        --
        network shop: create   # missing
        network shop_back: create   # missing
        api: create shop-api.new on shop, shop_back   # no container
        web: create shop-web.new   # no container
        api: start shop-api.new   # no container
        web: start shop-web.new   # no container
        api: rename shop-api.new to shop-api   # candidate is ready
        web: rename shop-web.new to shop-web   # candidate is ready
    ",
    );
    check(&wanted, &agreeing(&wanted), "--");
}

#[test]
fn engines_before_api_1_44_connect_the_others_before_the_start() {
    let wanted = with_back([on_two("api")], Network::default());
    check(
        &wanted,
        &old_engine(empty(&wanted)),
        "
        create api [container]
        --
        network shop: create   # missing
        network shop_back: create   # missing
        api: create shop-api.new   # no container
        api: connect shop-api.new to shop_back (new:shop_back)   # not attached to network shop_back
        api: start shop-api.new   # no container
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn drift_is_corrected_on_each_network() {
    let wanted = with_back([on_two("api")], Network::default());
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").networks.retain(|attachment| attachment.network == GROUP);
    check(
        &wanted,
        &observed,
        "
        update api [network]
        --
        api: connect shop-api to shop_back (net-shop_back)   # not attached to network shop_back
    ",
    );
    // A network of the group that its spec does not name.
    let alone = with_back([service("api")], Network::default());
    let mut observed = agreeing(&alone);
    observed.networks.insert("net-shop_back".into(), network("net-shop_back", "shop_back", true));
    let attachment = agreeing(&wanted).containers.values().next().unwrap().networks[1].clone();
    by_name(&mut observed, "shop-api").networks.push(attachment);
    check(
        &alone,
        &observed,
        "
        update api [network]
        --
        api: disconnect shop-api from shop_back (net-shop_back)   # attached to surplus network shop_back
    ",
    );
}

#[test]
fn removed_network_leaves_with_its_last_container() {
    let old = with_back([on_two("api")], Network::default());
    let new = desired([service("api")]);
    let plan = plan_text(&new, &agreeing(&old));
    assert!(plan.contains("replace api [network networks.shop networks.shop_back]"), "{plan}");
    assert!(plan.ends_with("network shop_back: remove net-shop_back   # unused"), "{plan}");
    check(
        &nothing(),
        &agreeing(&old),
        "
        remove api []
        remove shop []
        remove shop_back []
        --
        api: stop shop-api   # requested
        api: remove shop-api   # requested
        network shop: remove net-1   # unused
        network shop_back: remove net-shop_back   # unused
    ",
    );
}

#[test]
fn external_network_is_joined_but_never_created_or_removed() {
    let external = Network { external: true, ..Network::default() };
    let wanted = with_back([on_two("api")], external.clone());
    let mut observed = empty(&wanted);
    check(&wanted, &observed, "
        FAILS api: Conflict: external network shop_back does not exist (group.yaml:4); create it with `docker network create shop_back`
        --
    ");
    observed.networks.insert("out".into(), network("out", "shop_back", false));
    let plan = plan_text(&wanted, &observed);
    assert!(plan.contains("create shop-api.new on shop, shop_back") && !plan.contains("network shop_back"), "{plan}");
    // It was created by an earlier spec.
    let mut down = nothing();
    down.networks.insert("shop_back".into(), external);
    observed.networks.insert("out".into(), network("out", "shop_back", true));
    check(&down, &observed, "--");
}

#[test]
fn changed_settings_are_a_conflict_that_says_to_go_down_first() {
    let options = |value: &str| [("mtu".to_owned(), value.to_owned())].into();
    let aux_addresses = [("mtu".to_owned(), "10.0.0.9".parse().unwrap())].into();
    let reserved = AddressRange { aux_addresses, ..AddressRange::default() };
    let cases: [(Network, NetworkSettings, &str); 9] = [
        (
            Network { internal: true, ..Network::default() },
            NetworkSettings::default(),
            "`internal` false, the specs say true",
        ),
        (
            Network::default(),
            NetworkSettings { internal: true, ..NetworkSettings::default() },
            "`internal` true, the specs say false",
        ),
        (
            Network { driver: Some("macvlan".into()), ..Network::default() },
            NetworkSettings::default(),
            "the driver bridge, the specs say macvlan",
        ),
        (
            Network { driver_opts: options("1400"), ..Network::default() },
            NetworkSettings { options: options("1500"), ..NetworkSettings::default() },
            "the driver option mtu 1500, the specs say 1400",
        ),
        (
            Network { enable_ipv6: Some(true), ..Network::default() },
            NetworkSettings::default(),
            "`enable_ipv6` false, the specs say true",
        ),
        (
            Network { ipam_driver: Some("dhcp".into()), ..Network::default() },
            NetworkSettings::default(),
            "the address driver default, the specs say dhcp",
        ),
        (
            Network { ipam_options: options("1"), ..Network::default() },
            NetworkSettings::default(),
            "the option of the address driver mtu unset, the specs say 1",
        ),
        (
            Network { ranges: vec![reserved], ..Network::default() },
            NetworkSettings { aux_addresses: options("10.0.0.8"), ..NetworkSettings::default() },
            "the reserved address mtu 10.0.0.8, the specs say 10.0.0.9",
        ),
        (
            Network { labels: options("b"), ..Network::default() },
            NetworkSettings { labels: options("a"), ..NetworkSettings::default() },
            "the label mtu a, the specs say b",
        ),
    ];
    for (wants, has, expected) in cases {
        let wanted = with_back([on_two("api")], wants);
        let mut observed = agreeing(&with_back([on_two("api")], Network::default()));
        observed.networks.get_mut("net-shop_back").unwrap().settings = has;
        let plan = plan_text(&wanted, &observed);
        let expected = format!("the network shop_back has {expected}; run `drillmaster down` first\n--");
        assert_eq!(plan, format!("FAILS api: Conflict: {expected}"));
    }
}

#[test]
fn fixed_address_stops_the_old_container_first() {
    let fixed = |version: &str| {
        let endpoint = Endpoint { ipv4_address: Some([10, 1, 0, 5].into()), ..Endpoint::default() };
        service("api").image(version).network(Placement::Networks([(GROUP.to_owned(), endpoint)].into()))
    };
    let plan = plan_text(&desired([fixed("api:2")]), &{
        let mut observed = agreeing(&desired([fixed("api:1")]));
        add_image(&mut observed, "api:2", Default::default());
        observed
    });
    let stop =
        plan.find("api: stop shop-api   # replacement needs its ports or volumes").unwrap_or_else(|| panic!("{plan}"));
    assert!(stop < plan.find("api: start shop-api.new").unwrap(), "{plan}");
    // Another address is drift.
    let wanted = desired([fixed("api:1")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").networks[0].address = Some([10, 1, 0, 9].into());
    check(
        &wanted,
        &observed,
        "
        update api [network]
        --
        api: disconnect shop-api from shop (net-1)   # address is not 10.1.0.5
        api: connect shop-api to shop (net-1)   # not attached to network shop
    ",
    );
}

#[test]
fn start_first_moves_the_names_on_every_network() {
    let version = |image: &str| on_two("api").image(image).start_first();
    let mut observed = agreeing(&with_back([version("api:1")], Network::default()));
    add_image(&mut observed, "api:2", Default::default());
    let plan = plan_text(&with_back([version("api:2")], Network::default()), &observed);
    let steps: Vec<&str> =
        plan.lines().skip_while(|line| *line != "--").skip(1).map(|line| line.split("   #").next().unwrap()).collect();
    assert_eq!(
        steps,
        [
            "api: create shop-api.new on shop, shop_back",
            "api: start shop-api.new",
            "api: disconnect shop-api.new from shop (net-1)",
            "api: connect shop-api.new to shop (net-1)",
            "api: disconnect shop-api.new from shop_back (net-shop_back)",
            "api: connect shop-api.new to shop_back (net-shop_back)",
            "api: disconnect shop-api from shop (net-1)",
            "api: connect shop-api to shop without names (net-1)",
            "api: disconnect shop-api from shop_back (net-shop_back)",
            "api: connect shop-api to shop_back without names (net-shop_back)",
            "api: stop shop-api",
            "api: remove shop-api",
            "api: rename shop-api.new to shop-api",
        ],
        "{plan}"
    );
}

#[test]
fn host_network_stops_the_old_container_first_and_needs_no_network() {
    let version = |image: &str| service("api").image(image).mode("host");
    let wanted = desired([version("api:1")]);
    check(
        &wanted,
        &empty(&wanted),
        "
        create api [container]
        --
        api: create shop-api.new   # no container
        api: start shop-api.new   # no container
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
    let mut observed = agreeing(&wanted);
    assert_eq!(observed.networks.len(), 0);
    by_name(&mut observed, "shop-api").network_mode = "host".into();
    check(&wanted, &observed, "--");
    add_image(&mut observed, "api:2", Default::default());
    let plan = plan_text(&desired([version("api:2")]), &observed);
    assert!(plan.find("api: stop shop-api ").unwrap() < plan.find("api: start shop-api.new").unwrap(), "{plan}");
}

#[test]
fn replaced_target_replaces_those_that_share_its_namespace() {
    let services = |image: &str| {
        let vpn = service("vpn").image(image);
        let client =
            service("client").mode("service:vpn").needs_that("vpn", drillmaster::spec::model::Condition::Ready, true);
        desired([vpn, client, service("other").needs("vpn")])
    };
    let wanted = services("vpn:1");
    let mut observed = agreeing(&wanted);
    ["client", "vpn"].iter().for_each(|name| inspect(&mut observed, &wanted.services[*name]));
    let client = by_name(&mut observed, "shop-client").identity.clone().unwrap();
    assert_eq!(client.targets["service:vpn"], "id-vpn");
    check(&wanted, &observed, "--");

    // Somebody has replaced it.
    let vpn = by_name(&mut observed, "shop-vpn").clone();
    observed.containers.remove(&vpn.id);
    add(&mut observed, copy(&vpn, "id-again", "shop-vpn"));
    let plan = plan_text(&wanted, &observed);
    assert!(plan.starts_with("replace client [network_mode]\n--"), "{plan}");
    assert!(!plan.contains("other") && !plan.contains("vpn: "), "{plan}");

    let mut observed = agreeing(&wanted);
    ["client", "vpn"].iter().for_each(|name| inspect(&mut observed, &wanted.services[*name]));
    add_image(&mut observed, "vpn:2", Default::default());
    check(
        &services("vpn:2"),
        &observed,
        "
        replace vpn [image]
        restart client [dependencies.vpn]
        --
        client: stop shop-client   # dependency vpn restarted (`restart: true`)
        vpn: create shop-vpn.new   # image changed
        vpn: start shop-vpn.new   # image changed
        vpn: stop shop-vpn   # replacement is ready
        vpn: remove shop-vpn   # replacement is ready
        vpn: rename shop-vpn.new to shop-vpn   # candidate is ready
        client: create shop-client.new   # network_mode changed
        client: start shop-client.new   # network_mode changed
        client: remove shop-client   # replacement is ready
        client: rename shop-client.new to shop-client   # candidate is ready
    ",
    );
    // Podman does not remove a container while another one shares its namespaces.
    observed.capabilities.kind = EngineKind::Podman;
    check(
        &services("vpn:2"),
        &observed,
        "
        replace vpn [image]
        restart client [dependencies.vpn]
        --
        client: stop shop-client   # dependency vpn restarted (`restart: true`)
        vpn: create shop-vpn.new   # image changed
        vpn: start shop-vpn.new   # image changed
        vpn: stop shop-vpn   # replacement is ready
        client: remove shop-client   # it shares a namespace of shop-vpn, which is removed
        vpn: remove shop-vpn   # replacement is ready
        vpn: rename shop-vpn.new to shop-vpn   # candidate is ready
        client: create shop-client.new   # no container
        client: start shop-client.new   # no container
        client: rename shop-client.new to shop-client   # candidate is ready
    ",
    );
}

#[test]
fn missing_container_whose_network_is_shared_is_an_error() {
    let wanted = desired([service("api").mode("container:proxy")]);
    let mut observed = empty(&wanted);
    check(
        &wanted,
        &observed,
        "
        create api [container]
        FAILS api: Conflict: container proxy of `network_mode` does not exist (api.yaml:1); start it first
        --
    ",
    );
    add(&mut observed, foreign("proxy"));
    assert!(plan_text(&wanted, &observed).contains("api: create shop-api.new   # no container"));
}

#[test]
fn network_that_the_engine_is_too_old_for_is_an_error() {
    let back = Network { enable_ipv4: Some(false), ..Network::default() };
    let wanted = with_back([on_two("api")], back);
    let mut observed = empty(&wanted);
    assert!(plan_text(&wanted, &observed).contains("api: create shop-api.new"));
    observed.capabilities.version = "27.5.1".into();
    observed.capabilities.api = ApiVersion(1, 47);
    check(
        &wanted,
        &observed,
        "
        FAILS api: Conflict: `enable_ipv4` of the network shop_back (group.yaml:4) needs API 1.48 (Docker 28.0); the engine is Docker 27.5.1 with API 1.47
        --
    ",
    );
}

#[test]
fn mac_address_of_a_container_is_kept_when_it_is_connected_again() {
    let address = "02:42:ac:11:00:02".to_owned();
    let wanted = with_back([on_two("api").mac_address(&address)], Network::default());
    let addresses = |observed: &Observed| {
        let steps = forecast(&wanted, observed, &Memory::default()).steps;
        let joins = steps.into_iter().flat_map(|step| match step.verb {
            Verb::Create { joins, .. } => joins,
            Verb::Connect { join, .. } => vec![join],
            _ => Vec::new(),
        });
        joins.map(|join| (join.name, join.endpoint.mac_address)).collect::<Vec<_>>()
    };
    // It is that on the first network.
    let expected = [(GROUP.to_owned(), Some(address)), ("shop_back".to_owned(), None)];
    assert_eq!(addresses(&empty(&wanted)), expected);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").networks.clear();
    assert_eq!(addresses(&observed), expected);
}

#[test]
fn services_of_docker_compose_are_also_called_as_its_containers() {
    let mut wanted = desired([service("api").replicas(2), service("db")]);
    let names = |wanted: &Desired| -> Vec<Vec<String>> {
        let steps = forecast(wanted, &empty(wanted), &Memory::default()).steps;
        let joins = steps.into_iter().filter_map(|step| match step.verb {
            Verb::Create { joins, .. } => Some(joins[0].names.clone()),
            _ => None,
        });
        joins.collect()
    };
    assert_eq!(names(&wanted), [["api", "api.shop"], ["api", "api.shop"], ["db", "db.shop"]]);
    wanted.project = Some("shop".into());
    assert_eq!(
        names(&wanted),
        [["api", "api.shop", "shop-api-1"], ["api", "api.shop", "shop-api-2"], ["db", "db.shop", "shop-db-1"]]
    );
}

#[test]
fn service_is_restarted_after_the_one_whose_network_it_shares() {
    let wanted = desired([service("vpn"), service("client").mode("service:vpn").needs("vpn"), service("other")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-client").network_mode = "container:id-vpn".into();
    let plan = plan_text(&wanted, &observed);
    assert!(plan.contains("look at") && plan.contains("id-client") && plan.contains("id-vpn"), "{plan}");

    let mut at = |name: &str, time: &str| {
        inspect(&mut observed, &wanted.services[name]);
        by_name(&mut observed, &format!("shop-{name}")).details.as_mut().unwrap().started_at = time.into();
        observed.clone()
    };
    at("vpn", "2026-01-01T10:00:00.5Z");
    check(&wanted, &at("client", "2026-01-01T10:00:01Z"), "--");
    // Somebody has restarted it: the client is in a namespace without interfaces.
    check(
        &wanted,
        &at("vpn", "2026-01-01T11:00:00Z"),
        "
        restart client [network_mode]
        --
        client: stop shop-client   # network_mode changed
        client: start shop-client   # exited
    ",
    );
}
