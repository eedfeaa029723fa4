# SPDX-License-Identifier: Apache-2.0
# What scripts ask of `aws drs describe-source-servers`, and of GET /v1/source-servers all the same:
#
#	curl -s --unix-socket /run/holdfast/monitor.sock http://localhost/v1/source-servers |
#		jq -L /usr/share/holdfast 'include "drs"; lag'

# An ISO 8601 duration in seconds; null stays null.
def seconds: if . == null then null else
	capture("^P((?<d>[0-9.]+)D)?(T((?<h>[0-9.]+)H)?((?<m>[0-9.]+)M)?((?<s>[0-9.]+)S)?)?$")
	| map_values((. // "0") | tonumber) | .d * 86400 + .h * 3600 + .m * 60 + .s end;
def instant: if . == null then null else sub("\\.[0-9]+Z$"; "Z") | fromdate end;
def info: .dataReplicationInfo;
def name: .sourceProperties.identificationHints.hostname;
def disks: info.replicatedDisks // [];
def total(f): map(f) | add // 0;
def by_id(f): [.items[] | {key: .sourceServerID, value: f}] | from_entries;

def count: .items | length;
def ids: [.items[].sourceServerID];
def names: by_id(name);
def states: by_id(info.dataReplicationState);
def count_by_state: [.items[] | info.dataReplicationState] | group_by(.) | map({key: .[0], value: length}) | from_entries;
def not_continuous: [.items[] | select(info.dataReplicationState != "CONTINUOUS") | .sourceServerID];
def errors: by_id(info.dataReplicationError.error);
def error_texts: by_id(info.dataReplicationError.rawError);
def stalled_or_gone: [.items[] | select(info.dataReplicationState | IN("STALLED", "DISCONNECTED")) | name];
def lag: by_id(info.lagDuration | seconds);
def worst_lag: [.items[] | info.lagDuration | seconds // empty] | max;
def lag_above($limit): [.items[] | select((info.lagDuration | seconds) > $limit) | .sourceServerID];
def backlog: by_id(disks | total(.backloggedStorageBytes));
def total_backlog: [.items[] | disks[]] | total(.backloggedStorageBytes);
def replicated: by_id(disks | total(.replicatedStorageBytes));
def progress_percent: by_id(disks | if total(.totalStorageBytes) == 0 then 0
	else 100 * total(.replicatedStorageBytes) / total(.totalStorageBytes) | floor end);
def rescanned: by_id(disks | total(.rescannedStorageBytes));
def disk_sizes: by_id(disks | map({key: .deviceName, value: .totalStorageBytes}) | from_entries);
def source_disks: by_id(.sourceProperties.disks | map({key: .deviceName, value: .bytes}) | from_entries);
def last_seen: by_id(.lifeCycle.lastSeenByServiceDateTime | instant);
def not_seen_for($limit; $now): [.items[] | select($now - (.lifeCycle.lastSeenByServiceDateTime | instant // 0) > $limit) | .sourceServerID];
def added: by_id(.lifeCycle.addedToServiceDateTime | instant);
def replicating_since: by_id(.lifeCycle.firstByteDateTime | instant);
def elapsed: by_id(.lifeCycle.elapsedReplicationDuration | seconds);
def eta: by_id(info.etaDateTime | instant);
def failed_steps: by_id(info.dataReplicationInitiation.steps | map(select(.status == "FAILED") | .name));
def steps_left: by_id(info.dataReplicationInitiation.steps | map(select(.status | IN("SUCCEEDED", "SKIPPED") | not)) | length);
def cores: by_id(.sourceProperties.cpus | total(.cores));
def ram: by_id(.sourceProperties.ramBytes);
def addresses: by_id(.sourceProperties.networkInterfaces | map(.macAddress));
def tagged($key; $value): [.items[] | select(.tags[$key] == $value) | .sourceServerID];
def never_launched: [.items[] | select(.lastLaunchResult == "NOT_STARTED") | .sourceServerID];
