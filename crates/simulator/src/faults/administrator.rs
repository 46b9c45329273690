//! What an administrator does at a bad moment.

use super::anybody;
use crate::cluster::Cluster;
use replication::NodeId;

/// Orders another leader, of his choice or of the leader's; nobody waits for the answer.
pub(super) fn switch_over(asked: NodeId, cluster: &mut Cluster) {
    let mut words = vec![String::from("TF.SWITCHOVER"), String::new()];
    if cluster.random.chance(60) {
        let chosen = anybody(cluster);
        words.push(cluster.name(chosen).to_string());
    }
    cluster.trace.line(cluster.now_us, || format!("administrator @{asked}: {}", words.join(" ")));
    let connection = cluster.connect(asked);
    cluster.request(connection, words);
}
