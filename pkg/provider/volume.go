package provider

import (
	"cmp"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// hodeiDirs are where the launcher and the agent's socket are in the job's container,
// and the home of its command.
var hodeiDirs = []string{"/run/hodei", "/hodei"}

func (c Config) checkVolumes() error {
	names, paths := map[string]bool{}, map[string]bool{}
	for i, v := range c.Volumes {
		key := fmt.Sprintf("volumes[%d]", i)
		switch {
		case len(validation.IsDNS1123Label(v.Name)) > 0:
			return job.InvalidField(key+".name", v.Name, "want lower-case letters, digits and dashes, at most 63")
		case strings.HasPrefix(v.Name, "hodei-"):
			return job.InvalidField(key+".name", v.Name, "names that begin with hodei- are hodei's own")
		case names[v.Name]:
			return job.InvalidField(key+".name", v.Name, "another volume has it")
		case v.MountPath != path.Clean(v.MountPath) || !path.IsAbs(v.MountPath) || v.MountPath == "/" || strings.Contains(v.MountPath, ":"):
			return job.InvalidField(key+".mountPath", v.MountPath, "want a directory such as /data, without colons")
		case paths[v.MountPath]:
			return job.InvalidField(key+".mountPath", v.MountPath, "another volume is there")
		case hidden(v.MountPath) != "":
			return job.InvalidField(key+".mountPath", v.MountPath, "%s is hodei's own", hidden(v.MountPath))
		case path.IsAbs(v.SubPath) || slices.Contains(strings.Split(v.SubPath, "/"), ".."):
			return job.InvalidField(key+".subPath", v.SubPath, "want a path inside the volume")
		}
		if err := v.checkSource(key, c.AllowHostPath); err != nil {
			return err
		}
		if err := v.checkInside(key); err != nil {
			return err
		}
		names[v.Name], paths[v.MountPath] = true, true
	}
	return nil
}

// hidden returns the directory of hodei's that a mount at p would hide, or change; "" is
// none.
func hidden(p string) string {
	if rest, ok := strings.CutPrefix(p+"/", "/var/run/"); ok { // a link to /run in most images
		p = path.Join("/run", rest)
	}
	for _, dir := range hodeiDirs {
		if strings.HasPrefix(p+"/", dir+"/") || strings.HasPrefix(dir+"/", p+"/") {
			return dir
		}
	}
	return ""
}

// checkSource checks that v has one source, that says which.
func (v Volume) checkSource(key string, allowHostPath bool) error {
	var sources []string
	missing := "" // the field of the source that names it
	for _, s := range []struct {
		name, field string
		set, named  bool
	}{
		{"persistentVolumeClaim", "claimName", v.PersistentVolumeClaim != nil, v.PersistentVolumeClaim != nil &&
			v.PersistentVolumeClaim.ClaimName != ""},
		{"configMap", "name", v.ConfigMap != nil, v.ConfigMap != nil && v.ConfigMap.Name != ""},
		{"secret", "secretName", v.Secret != nil, v.Secret != nil && v.Secret.SecretName != ""},
		{"emptyDir", "", v.EmptyDir != nil, true},
		{"projected", "sources", v.Projected != nil, v.Projected != nil && len(v.Projected.Sources) > 0},
		{"csi", "driver", v.CSI != nil, v.CSI != nil && v.CSI.Driver != ""},
		{"ephemeral", "volumeClaimTemplate", v.Ephemeral != nil, v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil},
		{"hostPath", "path", v.HostPath != nil, v.HostPath != nil && path.IsAbs(v.HostPath.Path)},
	} {
		if s.set {
			sources = append(sources, s.name)
		}
		if s.set && !s.named {
			missing = s.name + "." + s.field
		}
	}
	switch {
	case len(sources) != 1:
		return job.WrongField(key,
			"want exactly one of persistentVolumeClaim, configMap, secret, emptyDir, projected, csi, ephemeral and hostPath")
	case v.HostPath != nil && !allowHostPath:
		return job.WrongField(key+".hostPath", "it gives jobs files of the node; if that is meant, say allow_host_path: true too")
	case missing != "":
		return job.WrongField(key+"."+missing, "must be given")
	}
	return nil
}

// checkInside checks what is in v's source.
func (v Volume) checkInside(key string) error {
	switch {
	case v.PersistentVolumeClaim != nil:
		return checkRef(key+".persistentVolumeClaim.claimName", v.PersistentVolumeClaim.ClaimName)
	case v.ConfigMap != nil:
		return cmp.Or(checkRef(key+".configMap.name", v.ConfigMap.Name),
			checkModes(key+".configMap", v.ConfigMap.DefaultMode, v.ConfigMap.Items))
	case v.Secret != nil:
		return cmp.Or(checkRef(key+".secret.secretName", v.Secret.SecretName),
			checkModes(key+".secret", v.Secret.DefaultMode, v.Secret.Items))
	case v.EmptyDir != nil:
		if m := v.EmptyDir.Medium; m != "" && m != corev1.StorageMediumMemory && m != corev1.StorageMediumHugePages &&
			!strings.HasPrefix(string(m), string(corev1.StorageMediumHugePagesPrefix)) {
			return job.InvalidField(key+".emptyDir.medium", m, "want Memory, HugePages or HugePages-SIZE")
		}
		if q := v.EmptyDir.SizeLimit; q != nil && !q.IsZero() { // 0 is no limit
			return job.Disk.CheckField(key+".emptyDir.sizeLimit", *q)
		}
	case v.Projected != nil:
		return checkProjected(key+".projected", v.Projected)
	case v.Ephemeral != nil:
		q, ok := v.Ephemeral.VolumeClaimTemplate.Spec.Resources.Requests[corev1.ResourceStorage]
		path := key + ".ephemeral.volumeClaimTemplate.spec.resources.requests.storage"
		if !ok {
			return job.WrongField(path, "must be given")
		}
		return job.Disk.CheckField(path, q)
	}
	return nil
}

// noIdentity is why a volume is refused with which a job could speak to the API server as
// its Pod's service account, or for its Pod.
const noIdentity = "jobs get no identity of the cluster's; give them one of their own in a Secret: secret"

func checkProjected(path string, p *corev1.ProjectedVolumeSource) error {
	if err := checkModes(path, p.DefaultMode, nil); err != nil {
		return err
	}
	for i, s := range p.Sources {
		at := fmt.Sprintf("%s.sources[%d]", path, i)
		given := 0
		for field := range reflect.ValueOf(s).NumField() {
			if !reflect.ValueOf(s).Field(field).IsNil() {
				given++
			}
		}
		if given != 1 {
			return job.WrongField(at, "want exactly one source")
		}
		var err error
		switch {
		case s.ServiceAccountToken != nil:
			err = job.WrongField(at+".serviceAccountToken", noIdentity)
		case s.PodCertificate != nil:
			err = job.WrongField(at+".podCertificate", noIdentity)
		case s.Secret != nil:
			err = cmp.Or(checkRef(at+".secret.name", s.Secret.Name), checkModes(at+".secret", nil, s.Secret.Items))
		case s.ConfigMap != nil:
			err = cmp.Or(checkRef(at+".configMap.name", s.ConfigMap.Name), checkModes(at+".configMap", nil, s.ConfigMap.Items))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRef checks the name of an object of the workers' namespace.
func checkRef(path, name string) error {
	if !isName(name) {
		return job.InvalidField(path, name, "want the name of one that is in the namespace")
	}
	return nil
}

// checkModes checks the permissions of files.
func checkModes(path string, all *int32, items []corev1.KeyToPath) error {
	if all != nil && (*all < 0 || *all > 0o777) {
		return job.InvalidField(path+".defaultMode", *all, "want 0 to 0777, an octal number in YAML")
	}
	for i, item := range items {
		if item.Mode != nil && (*item.Mode < 0 || *item.Mode > 0o777) {
			return job.InvalidField(fmt.Sprintf("%s.items[%d].mode", path, i), *item.Mode, "want 0 to 0777, an octal number in YAML")
		}
	}
	return nil
}
