package cgroup

import (
	"strings"
	"testing"
)

const (
	// A Pod's container of containerd 1.6 on a node with version 1.
	mountsV1 = `169 168 0:60 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
170 169 0:29 /kubepods/burstable/podP/C /sys/fs/cgroup/cpu ro,nosuid,nodev,noexec,relatime master:16 - cgroup cgroup rw,cpu
171 169 0:30 /kubepods/burstable/podP/C /sys/fs/cgroup/cpuacct ro,nosuid,nodev,noexec,relatime master:17 - cgroup cgroup rw,cpuacct
173 169 0:32 /kubepods/burstable/podP/C /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:19 - cgroup cgroup rw,memory
178 169 0:37 /kubepods/burstable/podP/C /sys/fs/cgroup/systemd ro,nosuid,nodev,noexec,relatime master:24 - cgroup cgroup rw,name=systemd
`
	cgroupV1 = `9:name=systemd:/kubepods/burstable/podP/C
4:memory:/kubepods/burstable/podP/C
2:cpuacct:/kubepods/burstable/podP/C
1:cpu:/kubepods/burstable/podP/C
0::/kubepods/burstable/podP/C
`
	// A container with version 2 and a cgroup namespace.
	mountsV2 = `600 590 0:180 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a,upperdir=/b
605 604 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate,memory_recursiveprot
`
	cgroupV2 = "0::/\n"
	// A machine of its own, with version 2.
	mountsHost = `24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
)

func TestOwn(t *testing.T) {
	tests := []struct {
		name, mounts, cgroup string
		want                 bool
	}{
		{"v1 in a container", mountsV1, cgroupV1, true},
		{"v1 in a cgroup namespace", strings.ReplaceAll(mountsV1, "/kubepods/burstable/podP/C", "/"),
			strings.ReplaceAll(cgroupV1, "/kubepods/burstable/podP/C", "/"), true},
		{"v1, another controller's path", mountsV1,
			strings.Replace(cgroupV1, "memory:/kubepods/burstable/podP/C", "memory:/kubepods/burstable/podP", 1), false},
		{"v1, a hierarchy that is not read", mountsV1, strings.Replace(cgroupV1, "systemd:/kubepods/burstable/podP/C", "systemd:/", 1),
			true},
		{"v1, without the process's path", mountsV1, strings.Replace(cgroupV1, "4:memory:", "4:cpuset:", 1), false},
		{"v1, two controllers together", strings.ReplaceAll(mountsV1, "rw,cpuacct\n", "rw,cpu,cpuacct\n"),
			"1:cpu,cpuacct:/kubepods/burstable/podP/C\n4:memory:/kubepods/burstable/podP/C\n", true},
		{"v1 of a machine", `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
`, "4:memory:/user.slice\n1:cpu:/\n0::/\n", false},
		{"hybrid", mountsV1 + "179 169 0:38 /kubepods/burstable/podP/C /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n", cgroupV1, true},
		{"hybrid, version 2 of the machine", mountsV1 + "179 169 0:38 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n", cgroupV1, false},
		{"v2 in a container", mountsV2, cgroupV2, true},
		{"v2 of a machine, in a session", mountsHost, "0::/user.slice/user-1000.slice/session-1.scope\n", false},
		{"v2 of a machine, in its root", mountsHost, "0::/\n", true}, // Open tells
		{"v2 of a machine, mounted into a container", strings.Replace(mountsV2, " / /sys/fs/cgroup ", " /../../.. /sys/fs/cgroup ", 1),
			cgroupV2, false},
		{"v2 in a container without a cgroup namespace",
			strings.Replace(mountsV2, " / /sys/fs/cgroup ", ` /system.slice/a\040b\134c /sys/fs/cgroup `, 1), "0::/system.slice/a b\\c\n",
			true},
		{"v2 of another", strings.Replace(mountsV2, " / /sys/fs/cgroup ", " /other /sys/fs/cgroup ", 1), "0::/own\n", false},
		{"a volume over v2", mountsV2 + "700 605 0:200 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", cgroupV2, false},
		{"a volume over v1", mountsV1 + "700 169 0:200 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", cgroupV1, false},
		{"a volume over one controller", mountsV1 + "700 169 0:200 / /sys/fs/cgroup/memory rw - tmpfs tmpfs rw\n", cgroupV1, false},
		{"a volume in a controller's place", mountsV1 + "700 169 0:200 / /sys/fs/cgroup/cpu,pids rw - tmpfs tmpfs rw\n", cgroupV1, false},
		{"a volume that is not read", mountsV1 + "700 169 0:200 / /sys/fs/cgroup/cpuset rw - tmpfs tmpfs rw\n", cgroupV1, true},
		{"the machine's over the own", mountsV1 + "700 169 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", cgroupV1, false},
		{"mounted elsewhere", strings.ReplaceAll(mountsV2, "/sys/fs/cgroup", "/sys/fs/cgroups"), cgroupV2, false},
		{"mounted below", strings.ReplaceAll(mountsV2, "/sys/fs/cgroup", "/sys/fs/cgroup/a/b"), cgroupV2, false},
		{"no mounts", "", cgroupV2, false},
		{"no paths", mountsV2, "", false},
		{"garbage", " - \n\x00 a b c - cgroup2\n1 2 3 / /sys/fs/cgroup\n", cgroupV2, false},
		{"torn", "605 604 0:27 / /sys/fs/cgroup ro,nosuid -", cgroupV2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Own([]byte(tt.mounts), []byte(tt.cgroup)); got != tt.want {
				t.Errorf("Own() = %t, want %t", got, tt.want)
			}
		})
	}
}

func TestOwnV2(t *testing.T) {
	const path = "/kubepods/burstable/podP/C"
	tests := []struct {
		name, mounts, cgroup string
		want                 bool
	}{
		{"beside v1, by the same path", mountsV1, cgroupV1, true},
		{"beside v1, the machine's", mountsV1, strings.Replace(cgroupV1, "0::"+path, "0::/", 1), false},
		{"beside v1, the runtime's", mountsV1, strings.Replace(cgroupV1, "0::"+path, "0::/system.slice/containerd.service", 1), false},
		{"beside v1, none", mountsV1, strings.Replace(cgroupV1, "0::"+path+"\n", "", 1), false},
		{"beside v1, in a cgroup namespace", strings.ReplaceAll(mountsV1, path, "/"), strings.ReplaceAll(cgroupV1, path, "/"), false},
		{"beside v1 that is another's", mountsV1, strings.Replace(cgroupV1, "memory:"+path, "memory:/", 1), false},
		{"hybrid", mountsV1 + "179 169 0:38 " + path + " /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n", cgroupV1, true},
		{"v2 in a container", mountsV2, cgroupV2, true},
		{"v2 of a machine, in a session", mountsHost, "0::/user.slice/user-1000.slice/session-1.scope\n", false},
		{"garbage", " - \n\x00 a b c - cgroup2\n", cgroupV2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := OwnV2([]byte(tt.mounts), []byte(tt.cgroup)); got != tt.want {
				t.Errorf("OwnV2() = %t, want %t", got, tt.want)
			}
		})
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`/a`: "/a", `/a\040b`: "/a b", `\134`: `\`, `\0`: `\0`, `\04`: `\04`, `\999`: `\999`, `\777`: `\777`, `\011\012`: "\t\n",
	} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzOwn: a process whose path is known nowhere is in no cgroup of its own.
func FuzzOwn(f *testing.F) {
	f.Add([]byte(mountsV1), []byte(cgroupV1))
	f.Add([]byte(mountsV2), []byte(cgroupV2))
	f.Add([]byte(mountsHost), []byte("0::/user.slice\n"))
	f.Fuzz(func(t *testing.T, mounts, paths []byte) {
		if Own(mounts, paths) && (Own(mounts, nil) || Own(nil, paths) || len(cgroupPaths(paths)) == 0) {
			t.Errorf("Own(%q, %q) without the one or the other", mounts, paths)
		}
	})
}
