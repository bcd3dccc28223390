package provider

import (
	"strings"
	"testing"
)

// TestValidateRefuses has a wrong value, or a wrong type, of every key.
func TestValidateRefuses(t *testing.T) {
	volume := func(s string) string { return "volumes: [{name: a, mountPath: /a, " + s + "}]" }
	at := func(path string) string { return "volumes: [{name: a, mountPath: '" + path + "', emptyDir: {}}]" }
	const terms = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
	const required = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
	for _, test := range []struct{ in, want string }{
		{"type: docker", `type: "docker": want "kubernetes" or "local"`},
		{"context: [a]", `context: ["a"]: want a text`},
		{"kubeconfig: 5", "kubeconfig: 5: want a text"},
		{"kubeconfig: ~/.kube/config", `kubeconfig: "~/.kube/config": want the whole path, from the root`},
		{"namespace: A/b", `namespace: "A/b": want lower-case letters, digits and dashes, at most 63`},
		{"image: 'a b'", `image: "a b": want REGISTRY/NAME:TAG, without spaces`},
		{"image_pull_policy: Sometimes", `image_pull_policy: "Sometimes": want "Always", "IfNotPresent" or "Never"`},
		{"image_pull_secrets: one", `image_pull_secrets: "one": want a list of texts`},
		{"image_pull_secrets: [A]", `image_pull_secrets: "A": want the name of a Secret`},
		{"image_pull_secrets: [{name: a}]", `image_pull_secrets[0]: {"name":"a"}: want a text`},
		{"service_account: A", `service_account: "A": want the name of a service account`},
		{"cpu: lots", `cpu: "lots": want a quantity such as 2 or 512Mi`},
		{"cpu: 0", "cpu: 0: want 1m to 10k"},
		{"cpu: [1]", "cpu: [1]: want a quantity"},
		{"{cpu: 2, cpu_limit: 1}", "cpu: 2: more than cpu_limit: 1"},
		{"cpu_limit: -1", "cpu_limit: -1: want 1m to 10k"},
		{"memory: 1GB", `memory: "1GB": want a quantity such as 2 or 512Mi; did you mean 1Gi?`},
		{"memory: 512m", "memory: 512m: want 4Mi to 1Pi; did you mean 512Mi?"},
		{"memory_limit: 512", "memory_limit: 512: want 4Mi to 1Pi; did you mean 512Mi?"},
		{"{memory: 2Gi, memory_limit: 1Gi}", "memory: 2Gi: more than memory_limit: 1Gi"},
		{"memory_limit: 0", "memory_limit: 0: want 4Mi to 1Pi"},
		{"ephemeral_storage: 0", "ephemeral_storage: 0: want 4Ki to 1Pi"},
		{"user: root", `user: "root": want UID or UID:GID, in numbers, or image`},
		{"user: -1", `user: "-1": want UID or UID:GID`},
		{"user: 1.5", "user: 1.5: want UID or UID:GID, in numbers, or image"},
		{"user: 4294967295", `user: "4294967295": an id is at most 2147483647`},
		{"ttl: 60", "ttl: 60: want a duration such as 90s, 10m or 1h30m"},
		{"ttl: 1d", `ttl: "1d": want a duration such as 90s, 10m or 1h30m`},
		{"ttl: 0s", "ttl: 0s: want 1s or more"},
		{"start_timeout: -1m", "start_timeout: -1m0s: want 1s or more"},
		{"ttl: 1ms", "ttl: 1ms: want 1s or more"},
		{"start_timeout: 1ns", "start_timeout: 1ns: want 1s or more"},
		{"container_logs: 'yes'", `container_logs: "yes": want true or false`},
		{"gpu_resource: gpu", `gpu_resource: "gpu": want DOMAIN/NAME of an extended resource, such as nvidia.com/gpu`},
		{"gpu_resource: kubernetes.io/gpu", `gpu_resource: "kubernetes.io/gpu": want DOMAIN/NAME`},
		{"queue: Team A", `queue: "Team A": want the name of a LocalQueue`},
		{"queue: " + strings.Repeat("a", 64), `": want the name of a LocalQueue, at most 63 characters`},
		{"ebpf: on", `ebpf: "on": want "off", "auto" or "require"`},
		{"ebpf: true", `ebpf: "on": want "off", "auto" or "require"`},
		{"ebpf: Auto", `ebpf: "Auto": want "off", "auto" or "require"`},
		{"ebpf: 1", "ebpf: 1: want a text"},
		{"node_selector: [a]", `node_selector: ["a"]: want keys and values`},
		{"node_selector: {disk: 5}", "node_selector.disk: 5: want a text"},
		{"node_selector: {a b: c}", `node_selector: "a b": want a label's key, such as example.com/name`},
		{"node_selector: {a: b c}", `node_selector.a: "b c": want at most 63 letters`},
		{"tolerations: {key: a}", `tolerations: {"key":"a"}: want a list`},
		{"tolerations: [{key: a, operator: Exist}]", `tolerations[0].operator: "Exist": want Exists or Equal`},
		{"tolerations: [{key: a, effect: NoRun}]", `tolerations[0].effect: "NoRun": want NoSchedule, PreferNoSchedule or NoExecute`},
		{"tolerations: [{operator: Exists}, {value: a}]",
			`tolerations[1].key: "": want a taint's key, or operator: Exists for every taint`},
		{"tolerations: [{key: a b}]", `tolerations[0].key: "a b": want a taint's key`},
		{"tolerations: [{key: a, operator: Exists, value: b}]", `tolerations[0].value: "b": must be empty where operator is Exists`},
		{"tolerations: [{key: a, value: b c}]", `tolerations[0].value: "b c": want at most 63`},
		{"tolerations: [{key: a, tolerationSeconds: 5}]", `tolerations[0].effect: "": want NoExecute where tolerationSeconds is given`},
		{"tolerations: [{key: a, tolerationSeconds: 5s}]", `tolerations[0].tolerationSeconds: "5s": want a whole number`},
		{"tolerations: [{key: a, Operator: Exists}]",
			"tolerations[0].Operator: unknown key; allowed are effect, key, operator, tolerationSeconds, value"},
		{"affinity: {node: {}}", "affinity.node: unknown key; allowed are nodeAffinity, podAffinity, podAntiAffinity"},
		{terms + "[]}}}", required + ": must be given"},
		{terms + "[{matchExpressions: [{key: a, operator: Is}]}]}}}",
			required + `[0].matchExpressions[0].operator: "Is": want In, NotIn, Exists, DoesNotExist, Gt or Lt`},
		{terms + "[{matchExpressions: [{key: a}]}]}}}", required + `[0].matchExpressions[0].operator: "": want In`},
		{terms + "[{matchExpressions: [{key: a, operator: In}]}]}}}",
			required + "[0].matchExpressions[0].values: must be given where operator is In"},
		{terms + "[{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]}}}",
			required + `[0].matchExpressions[0].values: ["b"]: must be empty where operator is Exists`},
		{terms + "[{matchExpressions: [{key: a, operator: Gt, values: [b]}]}]}}}",
			required + `[0].matchExpressions[0].values: ["b"]: want one whole number, as a text, where operator is Gt`},
		{terms + "[{matchExpressions: [{key: a b, operator: Exists}]}]}}}",
			required + `[0].matchExpressions[0].key: "a b": want a label's key of nodes`},
		{terms + "[{matchFields: [{key: metadata.uid, operator: In, values: [a]}]}]}}}",
			required + `[0].matchFields[0].key: "metadata.uid": want metadata.name`},
		{terms + "[{matchFields: [{key: metadata.name}]}]}}}", required + `[0].matchFields[0].operator: "": want In`},
		{"affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {}}]}}",
			"affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: 0: want 1 to 100"},
		{"affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{}]}}]}}",
			`affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: "": want`},
		{"affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}}]}}",
			`affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: "": want a label's key of nodes, such ` +
				`as kubernetes.io/hostname`},
		{"affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a, labelSelector: " +
			"{matchExpressions: [{key: a, operator: In}]}}]}}",
			`affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: ` +
				`Required value`},
		{"affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101}]}}",
			"affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: 101: want 1 to 100"},
		{"affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: a, " +
			"namespaceSelector: {matchLabels: {a: b c}}}}]}}", `.podAffinityTerm.namespaceSelector.matchLabels: Invalid value: "b c"`},
		{"topology_spread: [{}]", "topology_spread[0].maxSkew: 0: must be more than zero"},
		{"topology_spread: [{maxSkew: 1}]",
			`topology_spread[0].topologyKey: "": want a label's key of nodes, such as topology.kubernetes.io/zone`},
		{"topology_spread: [{maxSkew: 1, topologyKey: a}]",
			`topology_spread[0].whenUnsatisfiable: "": want DoNotSchedule or ScheduleAnyway`},
		{"topology_spread: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: Schedule}]",
			`topology_spread[0].whenUnsatisfiable: "Schedule": want DoNotSchedule or ScheduleAnyway`},
		{"topology_spread: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]",
			"topology_spread[0].labelSelector: must be given"},
		{"topology_spread: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchExpressions: [{key: a, " +
			"operator: Is}]}}]",
			`topology_spread[0].labelSelector.matchExpressions[0].operator: "Is": want In, NotIn, Exists or DoesNotExist`},
		{"topology_spread: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b c}}}]",
			`topology_spread[0].labelSelector.matchLabels: Invalid value: "b c"`},
		{"topology_spread: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, minDomains: -1, labelSelector: {}}]",
			"topology_spread[0].minDomains: -1: want 1 or more"},
		{"topology_spread: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, minDomains: 2, labelSelector: {}}]",
			"topology_spread[0].minDomains: 2: want 1 or more, and whenUnsatisfiable: DoNotSchedule"},
		{"priority_class: A", `priority_class: "A": want the name of a PriorityClass`},
		{"runtime_class: A", `runtime_class: "A": want the name of a RuntimeClass`},
		{"labels: {hodei.io/job: a}", `labels.hodei.io/job: "a": hodei.io is hodei's own`},
		{"labels: {x.hodei.io/job: a}", "hodei.io is hodei's own"},
		{"labels: {app.kubernetes.io/name: a}", `labels.app.kubernetes.io/name: "a": hodei sets it itself`},
		{"labels: {batch.kubernetes.io/job-name: a}", "the Job's controller sets it itself"},
		{"labels: {job-name: a}", "the Job's controller sets it itself"},
		{"labels: {kueue.x-k8s.io/queue-name: a}", "it is what the key queue sets"},
		{"labels: {a b: c}", `labels: "a b": want a label's key`},
		{"labels: {a: b/c}", `labels.a: "b/c": want at most 63`},
		{"labels: {a: true}", "labels.a: true: want a text"},
		{"annotations: {hodei.io/spec: a}", "annotations.hodei.io/spec: \"a\": hodei.io is hodei's own"},
		{"annotations: {kubectl.kubernetes.io/default-container: a}", "hodei sets it itself"},
		{"annotations: {a b: c}", `annotations: "a b": want a key such as example.com/name`},
		{"annotations: {a: " + strings.Repeat("x", 256<<10) + "}", "annotations: annotations size"},
		{"security_context: {runAsUser: -1}", "security_context.runAsUser: -1: want 0 to 2147483647"},
		{"security_context: {runAsGroup: root}", `security_context.runAsGroup: "root": want a whole number`},
		{"security_context: {fsGroup: 4294967296}", "security_context.fsGroup: 4294967296: want 0 to"},
		{"security_context: {supplementalGroups: [1, -1]}", "security_context.supplementalGroups[1]: -1: want 0 to"},
		{"security_context: {seccompProfile: {type: None}}",
			`security_context.seccompProfile.type: "None": want RuntimeDefault, Localhost or Unconfined`},
		{"security_context: {seccompProfile: {}}",
			`security_context.seccompProfile.type: "": want RuntimeDefault, Localhost or Unconfined`},
		{"security_context: {seccompProfile: {type: Localhost}}",
			"security_context.seccompProfile.localhostProfile: must be given where type is Localhost"},
		{"security_context: {appArmorProfile: {type: Unconfined, localhostProfile: a}}",
			`security_context.appArmorProfile.localhostProfile: "a": must be left out where type is Unconfined`},
		{"security_context: {sysctls: [{name: bad name, value: '1'}]}",
			`security_context.sysctls[0].name: "bad name": want a kernel parameter`},
		{"security_context: {privileged: true}", "security_context.privileged: unknown key; allowed are appArmorProfile, fsGroup, "},
		{"security_context: {fsGroupChangePolicy: Never}", "want OnRootMismatch or Always"},
		{"volumes: {}", "volumes: {}: want a list"},
		{"volumes: [{mountPath: /a, emptyDir: {}}]", `volumes[0].name: "": want`},
		{"volumes: [{name: hodei-run, mountPath: /a, emptyDir: {}}]",
			`volumes[0].name: "hodei-run": names that begin with hodei- are hodei's own`},
		{"volumes: [{name: a, mountPath: /a, emptyDir: {}}, {name: a, mountPath: /b, emptyDir: {}}]",
			`volumes[1].name: "a": another volume has it`},
		{"volumes: [{name: a, mountPath: /a, emptyDir: {}}, {name: b, mountPath: /a, emptyDir: {}}]",
			`volumes[1].mountPath: "/a": another volume is there`},
		{at("a"), `volumes[0].mountPath: "a": want a directory such as /data, without colons`},
		{at("/"), `volumes[0].mountPath: "/": want`},
		{at("/a/../b"), `volumes[0].mountPath: "/a/../b": want`},
		{at("/a:b"), `volumes[0].mountPath: "/a:b": want`},
		{at("/run"), `volumes[0].mountPath: "/run": /run/hodei is hodei's own`},
		{at("/run/hodei"), `volumes[0].mountPath: "/run/hodei": /run/hodei is hodei's own`},
		{at("/run/hodei/x"), "/run/hodei is hodei's own"},
		{at("/var/run"), "/run/hodei is hodei's own"},
		{at("/hodei/home"), "/hodei is hodei's own"},
		{at("/var/run/hodei/x"), "/run/hodei is hodei's own"},
		{volume("subPath: ../b, emptyDir: {}"), `volumes[0].subPath: "../b": want a path inside the volume`},
		{volume("subPath: /b, emptyDir: {}"), `volumes[0].subPath: "/b": want a path inside the volume`},
		{volume("readOnly: 1, emptyDir: {}"), "volumes[0].readOnly: 1: want true or false"},
		{volume("subPath: b"), "volumes[0]: want exactly one of persistentVolumeClaim, configMap, "},
		{volume("emptyDir: {}, secret: {secretName: a}"), "volumes[0]: want exactly one of"},
		{volume("nfs: {server: a}"),
			"volumes[0].nfs: unknown key; allowed are configMap, csi, emptyDir, ephemeral, hostPath, mountPath, name, "},
		{volume("persistentVolumeClaim: {}"), "volumes[0].persistentVolumeClaim.claimName: must be given"},
		{volume("configMap: {}"), "volumes[0].configMap.name: must be given"},
		{volume("configMap: {name: a, items: [{key: b, mode: rw}]}"), `volumes[0].configMap.items[0].mode: "rw": want a whole number`},
		{volume("secret: {name: a}"), "volumes[0].secret.name: unknown key; allowed are defaultMode, "},
		{volume("emptyDir: {sizeLimit: 1Gb}"), `volumes[0].emptyDir.sizeLimit: "1Gb": want a quantity`},
		{volume("emptyDir: {sizeLimit: -1Gi}"), "volumes[0].emptyDir.sizeLimit: -1Gi: want 4Ki to 1Pi"},
		{volume("emptyDir: {sizeLimit: 512m}"), "volumes[0].emptyDir.sizeLimit: 512m: want 4Ki to 1Pi; did you mean 512Mi?"},
		{volume("emptyDir: {medium: Foo}"), `volumes[0].emptyDir.medium: "Foo": want Memory, HugePages or HugePages-SIZE`},
		{volume("persistentVolumeClaim: {claimName: BAD NAME}"),
			`volumes[0].persistentVolumeClaim.claimName: "BAD NAME": want the name of one`},
		{volume("configMap: {name: BAD NAME}"), `volumes[0].configMap.name: "BAD NAME": want the name of one`},
		{volume("configMap: {name: a, items: [{key: b, path: c, mode: 512}]}"), "volumes[0].configMap.items[0].mode: 512: want 0 to 0777"},
		{volume("secret: {secretName: BAD NAME}"), `volumes[0].secret.secretName: "BAD NAME": want the name of one`},
		{volume("secret: {secretName: a, defaultMode: 99999}"), "volumes[0].secret.defaultMode: 99999: want 0 to 0777"},
		{volume("projected: {sources: [{}]}"), "volumes[0].projected.sources[0]: want exactly one source"},
		{volume("projected: {sources: [{secret: {name: a}}, {secret: {name: A}}]}"),
			`volumes[0].projected.sources[1].secret.name: "A": want the name of one`},
		{volume("projected: {sources: [{configMap: {name: A}}]}"),
			`volumes[0].projected.sources[0].configMap.name: "A": want the name of one`},
		{volume("projected: {defaultMode: -1, sources: [{configMap: {name: a}}]}"), "volumes[0].projected.defaultMode: -1: want 0 to 0777"},
		{volume("projected: {sources: [{configMap: {name: a}}, {serviceAccountToken: {path: t}}]}"),
			"volumes[0].projected.sources[1].serviceAccountToken: jobs get no identity"},
		{volume("projected: {sources: [{podCertificate: {signerName: a/b, keyType: RSA3072}}]}"),
			"volumes[0].projected.sources[0].podCertificate: jobs get no identity"},
		{"user: 65536\nhost_users: false", "user: 65536: with host_users: false want 0 to 65535"},
		{"user: 0:65536\nhost_users: false", "user: 65536: with host_users: false want 0 to 65535"},
		{"security_context: {runAsUser: 65536}\nhost_users: false",
			"security_context.runAsUser: 65536: with host_users: false want 0 to 65535"},
		{"ebpf: require\nhost_users: false",
			`host_users: false: the agent of a Pod with a user namespace can't have eBPF, and ebpf is "require"`},
		{volume("projected: {}"), "volumes[0].projected.sources: must be given"},
		{volume("csi: {}"), "volumes[0].csi.driver: must be given"},
		{volume("ephemeral: {}"), "volumes[0].ephemeral.volumeClaimTemplate: must be given"},
		{volume("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [Once]}}}"),
			`volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes[0]: "Once": want ReadWriteOnce`},
		{volume("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}"),
			"volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests.storage: must be given"},
		{volume("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: -5Gi}}}}}"),
			"volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests.storage: -5Gi: want 4Ki to 1Pi"},
		{volume("hostPath: {path: /a}"),
			"volumes[0].hostPath: it gives jobs files of the node; if that is meant, say allow_host_path: true too"},
		{"{allow_host_path: true, " + volume("hostPath: {path: a}") + "}", "volumes[0].hostPath.path: must be given"},
		{"allow_host_path: /a", `allow_host_path: "/a": want true or false`},
		{"{type: local, cpu: 1}", `type: a provider of type "local" has no other key`},
		{"image: null\nimages: a", "images: unknown key; allowed are affinity, allow_host_path, annotations, "},
	} {
		in := test.in
		switch {
		case strings.HasPrefix(in, "{"): // flow
			in = strings.Replace(in, "{", "{type: kubernetes, ", 1)
			in = strings.Replace(in, "type: kubernetes, type: local", "type: local", 1)
		case !strings.HasPrefix(in, "type:"):
			in = "type: kubernetes\n" + in
		}
		t.Run(test.in[:min(len(test.in), 100)], func(t *testing.T) {
			_, _, err := ParseRequest([]byte(in))
			if err == nil {
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestValidateTakes(t *testing.T) {
	for _, in := range []string{
		"ebpf: off", "ebpf: 'off'", "ebpf: false", "ebpf: auto", "ebpf: require", "ebpf: ''", "user: 0", "user: image", "user: 1000:50",
		"cpu: 0.5", "cpu: 2", "memory: 1.5Gi",
		"tolerations: [{operator: Exists}]", "tolerations: []", "tolerations:", "affinity: {}", "labels: {}",
		"labels: {topology.kubernetes.io/zone: a}", "annotations: {Example.com/A: 'x\ny'}", "annotations: {prometheus.io/scrape: 'false'}",
		"volumes: [{name: a, mountPath: /running, emptyDir: {}}, {name: b, mountPath: /var/runner, emptyDir: {}}]",
		"volumes: [{name: a, mountPath: /run/secrets, secret: {secretName: a, defaultMode: 0440}}]",
		"volumes: [{name: a, mountPath: /a, subPath: b..c/d, configMap: {name: a}}]",
		"volumes: [{name: a, mountPath: /a, emptyDir: {medium: HugePages-2Mi, sizeLimit: 0}}]",
		"volumes: [{name: a, mountPath: /a, projected: {defaultMode: 0777, sources: [{downwardAPI: {}}, {secret: {name: a, items: [{key: " +
			"b, path: c, mode: 0400}]}}]}}]",
		"volumes: [{name: a, mountPath: /a, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: " +
			"{storage: 5Gi}}}}}}]",
		"security_context: {seccompProfile: {type: Localhost, localhostProfile: a/b.json}, appArmorProfile: {type: RuntimeDefault}}",
		"topology_spread: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, minDomains: 2, labelSelector: {}}]",
		"ttl: 1s",
		"security_context: {runAsNonRoot: true, sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '0'}]}",
	} {
		t.Run(in, func(t *testing.T) {
			if _, _, err := ParseRequest([]byte("type: kubernetes\n" + in)); err != nil {
				t.Error(err)
			}
		})
	}
}
