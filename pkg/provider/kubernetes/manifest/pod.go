package manifest

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
)

func renderPod(spec *job.Spec, s Settings) (*corev1.PodSpec, error) {
	c := s.Config
	users, err := s.users(spec)
	if err != nil {
		return nil, err
	}
	// The provider's policy is for the worker's image; of another one the user, or
	// Kubernetes by its tag, knows better.
	image, pullPolicy := cmp.Or(spec.Image, c.Image), corev1.PullPolicy("")
	if image == c.Image {
		pullPolicy = corev1.PullPolicy(c.ImagePullPolicy)
	}
	no := false
	runDirMount := corev1.VolumeMount{Name: "hodei-run", MountPath: runDir}
	runDirReadOnly := runDirMount
	runDirReadOnly.ReadOnly = true
	own := ownStorage(spec)
	homeMount := corev1.VolumeMount{Name: "hodei-home", MountPath: homeDir}
	grace := int64(math.Ceil((spec.Grace + graceMargin).Seconds()))

	pod := &corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		AutomountServiceAccountToken:  &no,
		EnableServiceLinks:            &no,
		ShareProcessNamespace:         &no,
		ServiceAccountName:            c.ServiceAccount,
		TerminationGracePeriodSeconds: &grace,
		SecurityContext:               podSecurity(c.SecurityContext),
		HostUsers:                     c.HostUsers,
		NodeSelector:                  c.NodeSelector,
		Tolerations:                   c.Tolerations,
		Affinity:                      c.Affinity,
		TopologySpreadConstraints:     c.TopologySpread,
		PriorityClassName:             c.PriorityClass,
		Containers: []corev1.Container{
			{
				Name: AgentContainer, Image: c.Image, ImagePullPolicy: corev1.PullPolicy(c.ImagePullPolicy),
				Command:         []string{workerProgram, contract.CommandAgent},
				Env:             agentEnv(spec, s),
				Resources:       agentResources(spec),
				SecurityContext: agentSecurity(users, s.EBPF() != ""),
				// The kubelet starts no later container before this has returned.
				Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
					Exec: &corev1.ExecAction{Command: []string{workerProgram, contract.CommandCopy, LauncherPath}},
				}},
				VolumeMounts: []corev1.VolumeMount{
					runDirMount,
					{Name: "hodei-spool", MountPath: spoolDir},
					{Name: EvictionVolume, MountPath: evictionDir},
					{Name: "hodei-certs", MountPath: certsDir, ReadOnly: true},
				},
			},
			{
				Name: JobContainer, Image: image, ImagePullPolicy: pullPolicy,
				Command:         launchCommand(spec),
				Env:             jobEnv(spec.Env),
				EnvFrom:         jobEnvFrom(spec.EnvFrom),
				Resources:       jobResources(spec, c.GPUResource),
				SecurityContext: jobSecurity(users.command, users.group),
				VolumeMounts:    []corev1.VolumeMount{runDirReadOnly, homeMount},
			},
		},
		Volumes: []corev1.Volume{
			{Name: "hodei-run", VolumeSource: emptyDir(runDirBytes)},
			{Name: "hodei-home", VolumeSource: emptyDir(own.Value())},
			{Name: "hodei-spool", VolumeSource: emptyDir(spec.LogSpool.Value() + spoolMargin)},
			{Name: EvictionVolume, VolumeSource: emptyDir(contract.EvictionBytes)},
			{Name: "hodei-certs", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName: spec.Name, DefaultMode: mode(0o444),
				Items: []corev1.KeyToPath{ // never the server's key
					{Key: "ca.crt", Path: "ca.crt"}, {Key: "client.crt", Path: "client.crt"}, {Key: "client.key", Path: "client.key"},
					{Key: startByKey, Path: startByKey},
				},
			}}},
		},
	}
	if c.RuntimeClass != "" {
		pod.RuntimeClassName = &c.RuntimeClass
	}
	for _, v := range c.Volumes {
		volume, mount := v.Pod()
		pod.Volumes = append(pod.Volumes, volume)
		command := &pod.Containers[1]
		command.VolumeMounts = append(command.VolumeMounts, mount)
	}
	for _, name := range c.ImagePullSecrets {
		pod.ImagePullSecrets = append(pod.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return pod, nil
}

// launchCommand is the launcher with the job's command. The container has no working
// directory of its own: the runtime would make one that is missing, as root.
func launchCommand(spec *job.Spec) []string {
	launch := []string{
		LauncherPath, contract.CommandLaunch,
		"--" + contract.FlagSocket + "=" + socketPath, "--" + contract.FlagGrace + "=" + spec.Grace.String(),
		"--" + contract.FlagHome + "=" + homeDir,
	}
	// Container runtimes treat an empty HOME as none, and set another.
	if slices.ContainsFunc(spec.Env, func(v job.EnvVar) bool { return v.Name == "HOME" && v.Value != "" }) {
		launch = append(launch, "--"+contract.FlagKeepHome)
	}
	if spec.Workdir != "" {
		launch = append(launch, "--"+contract.FlagWorkdir+"="+spec.Workdir)
	}
	switch {
	case spec.TTY:
		launch = append(launch, "--"+contract.FlagTTY)
	case spec.Stdin:
		launch = append(launch, "--"+contract.FlagStdin)
	}
	if spec.MergeOutput {
		launch = append(launch, "--"+contract.FlagMergeOutput)
	}
	launch = append(append(launch, "--"), spec.Command...)
	for i := range launch {
		launch[i] = literal(launch[i])
	}
	return launch
}

// literal keeps Kubernetes from expanding $(NAME) in commands and variables:
// what was typed is what runs.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// typed undoes literal.
func typed(s string) string { return strings.ReplaceAll(s, "$$", "$") }

func agentEnv(spec *job.Spec, s Settings) []corev1.EnvVar {
	env := []corev1.EnvVar{
		podField(contract.EnvNamespace, "metadata.namespace"),
		podField(contract.EnvAttempt, "metadata.name"),
		podField(contract.EnvAttemptUID, "metadata.uid"),
	}
	for _, v := range [][2]string{
		{contract.EnvJob, spec.Name},
		{contract.EnvSocket, socketPath},
		{contract.EnvSpoolDir, spoolDir},
		{contract.EnvSpoolBytes, strconv.FormatInt(spec.LogSpool.Value(), 10)},
		{contract.EnvListen, fmt.Sprintf("127.0.0.1:%d", AgentPort)},
		{contract.EnvServerName, s.ServerName},
		{contract.EnvCACertPath, certsDir + "/ca.crt"},
		{contract.EnvClientCertPath, certsDir + "/client.crt"},
		{contract.EnvClientKeyPath, certsDir + "/client.key"},
		{contract.EnvStartTimeout, spec.StartTimeout.String()},
		{contract.EnvStartByFile, certsDir + "/" + startByKey},
		{contract.EnvEvictionDir, evictionDir},
		{contract.EnvTimeout, spec.Timeout.String()},
		{contract.EnvGrace, spec.Grace.String()},
		{contract.EnvLinger, spec.Linger.String()},
		{contract.EnvRetries, strconv.Itoa(int(spec.Retries))},
		{contract.EnvLogOverflow, spec.LogOverflow},
		{contract.EnvDetached, oneIf(spec.Detached)},
		{contract.EnvStdin, oneIf(spec.Stdin)},
		{contract.EnvTTY, oneIf(spec.TTY)},
		{contract.EnvExec, oneIf(spec.Exec)},
		{contract.EnvContainerLogs, oneIf(spec.ContainerLogs)},
		{contract.EnvEndCopied, oneIf(spec.EndCopied)},
		{contract.EnvEBPF, s.EBPF()},
	} {
		if v[1] != "" {
			env = append(env, corev1.EnvVar{Name: v[0], Value: v[1]})
		}
	}
	return env
}

// oneIf is contract.True for true; the agent takes a variable that is not there for false.
func oneIf(on bool) string {
	if on {
		return contract.True
	}
	return ""
}

// podField is a variable with what the Pod itself says.
func podField(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

// jobEnv returns the command's variables. The user's override hodei's own; only hodei's are not
// plain values.
func jobEnv(vars []job.EnvVar) []corev1.EnvVar {
	env := []corev1.EnvVar{
		podField(contract.EnvJob, "metadata.labels['"+LabelJob+"']"),
		podField(contract.EnvAttempt, "metadata.name"),
	}
	env = slices.DeleteFunc(env, func(ours corev1.EnvVar) bool {
		return slices.ContainsFunc(vars, func(v job.EnvVar) bool { return v.Name == ours.Name })
	})
	for _, v := range vars {
		env = append(env, corev1.EnvVar{Name: v.Name, Value: literal(v.Value)})
	}
	return env
}

func jobEnvFrom(sources []job.EnvSource) []corev1.EnvFromSource {
	var env []corev1.EnvFromSource
	for _, s := range sources {
		if s.Secret != "" {
			env = append(env, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: s.Secret}}})
		} else {
			env = append(env, corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: s.ConfigMap}}})
		}
	}
	return env
}

func emptyDir(bytes int64) corev1.VolumeSource {
	return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(bytes, resource.BinarySI)}}
}

func mode(m int32) *int32 { return &m }
