package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// mkimage packs a directory as an image of one layer, in an OCI archive that
// containerd imports and buildah takes as a base:
//
//	mkimage -o OUT.tar -name registry.local/x:1 -rootfs DIR [-entrypoint A,B] [-cmd A,B] [-env K=V ...] [-user U]
//
// The same directory gives the same bytes, but for what the names say.
func mkimage(args []string) error {
	flags := flag.NewFlagSet("mkimage", flag.ExitOnError)
	out := flags.String("o", "", "`archive` to write")
	name := flags.String("name", "", "full `name` of the image, with its tag")
	rootfs := flags.String("rootfs", "", "`directory` that becomes /")
	entrypoint := flags.String("entrypoint", "", "`words`, comma-separated")
	cmd := flags.String("cmd", "", "`words`, comma-separated")
	user := flags.String("user", "", "`user` or uid:gid of the process (default root)")
	env := list{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	flags.Var(&env, "env", "a variable as `NAME=VALUE`; the last of a name counts (repeatable)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || *name == "" || *rootfs == "" {
		return errors.New("-o, -name and -rootfs are required")
	}

	// The layer's digest stands before the layer in the archive, hence a file
	// between.
	layer, err := os.CreateTemp(filepath.Dir(*out), ".layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	hash := sha256.New()
	if err := tarTree(io.MultiWriter(layer, hash), *rootfs); err != nil {
		return err
	}
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	layerDigest := hex.EncodeToString(hash.Sum(nil))

	type object = map[string]any
	const media = "application/vnd.oci.image."
	platform := object{"architecture": runtime.GOARCH, "os": "linux"}
	config := toJSON(object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Env": env, "Entrypoint": splitList(*entrypoint), "Cmd": splitList(*cmd),
			"User": *user, "WorkingDir": "/"},
		"rootfs": object{"type": "layers", "diff_ids": []string{"sha256:" + layerDigest}},
	})
	manifest := toJSON(object{
		"schemaVersion": 2, "mediaType": media + "manifest.v1+json",
		"config": object{"mediaType": media + "config.v1+json", "digest": "sha256:" + digest(config), "size": len(config)},
		"layers": []object{{"mediaType": media + "layer.v1.tar", "digest": "sha256:" + layerDigest, "size": size}},
	})
	index := toJSON(object{
		"schemaVersion": 2, "mediaType": media + "index.v1+json",
		"manifests": []object{{
			"mediaType": media + "manifest.v1+json", "digest": "sha256:" + digest(manifest), "size": len(manifest),
			"platform":    platform,
			"annotations": object{"io.containerd.image.name": *name, "org.opencontainers.image.ref.name": *name},
		}},
	})

	file, err := os.Create(*out)
	if err != nil {
		return err
	}
	defer file.Close()
	archive := tar.NewWriter(file)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", index},
		{"blobs/sha256/" + digest(config), config},
		{"blobs/sha256/" + digest(manifest), manifest},
	} {
		if err := archive.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			return err
		}
		if _, err := archive.Write(f.data); err != nil {
			return err
		}
	}
	if err := archive.WriteHeader(&tar.Header{Name: "blobs/sha256/" + layerDigest, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	if _, err := io.Copy(archive, layer); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return file.Close()
}

func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", v, err)) // maps of strings and numbers can't fail
	}
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// tarTree writes the content of root: directories, files and symbolic links,
// with their owners and modes, sorted by name, all of the same age.
func tarTree(w io.Writer, root string) error {
	archive := tar.NewWriter(w)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode().Type() == fs.ModeSymlink {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		if header.Name, err = filepath.Rel(root, path); err != nil {
			return err
		}
		if info.IsDir() {
			header.Name += "/"
		}
		header.ModTime = time.Unix(0, 0)
		header.Uname, header.Gname = "", "" // the machine's names mean nothing in the image
		if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(archive, file)
		return err
	})
	if err != nil {
		return err
	}
	return archive.Close()
}
