package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"
)

// validity outlives any test cluster; nothing rotates these certificates.
const validity = 365 * 24 * time.Hour

// identity is a client certificate with a kubeconfig.
type identity struct {
	file   string // base name of the .crt, .key and .kubeconfig
	name   string // user
	groups []string
}

// certs writes a cluster's certificates, keys and kubeconfigs to one directory:
//
//	certs -dir D -server URL -san NAME,... -node NAME=IP ... -user NAME ...
//
// A file that exists is kept: calling it again with one more node adds that
// node's files and leaves the running components' alone.
func certs(args []string) error {
	flags := flag.NewFlagSet("certs", flag.ExitOnError)
	dir := flags.String("dir", "pki", "`directory` to write to")
	server := flags.String("server", "https://127.0.0.1:6443", "`URL` of the API server, for the kubeconfigs")
	san := flags.String("san", "", "further `names` and addresses of the API server, comma-separated")
	var nodes, users list
	flags.Var(&nodes, "node", "a node as `NAME=IP` (repeatable)")
	flags.Var(&users, "user", "`name` of a user with no rights at all (repeatable)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}

	ca, err := openAuthority(*dir, "ca", "kubernetes-ca")
	if err != nil {
		return err
	}
	// The aggregation layer's client has an authority of its own: with the
	// cluster's it could claim to be anybody (kube-apiserver(1),
	// --requestheader-client-ca-file).
	frontProxy, err := openAuthority(*dir, "front-proxy-ca", "front-proxy-ca")
	if err != nil {
		return err
	}
	if err := serviceAccountKey(*dir); err != nil {
		return err
	}

	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1"}
	names = append(names, splitList(*san)...)
	if err := ca.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, names); err != nil {
		return err
	}
	if err := frontProxy.issue("front-proxy-client", pkix.Name{CommonName: "front-proxy-client"}, nil); err != nil {
		return err
	}
	identities := []identity{
		{file: "admin", name: "admin", groups: []string{"system:masters"}},
		{file: "apiserver-kubelet-client", name: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{file: "controller-manager", name: "system:kube-controller-manager"},
		{file: "scheduler", name: "system:kube-scheduler"},
		{file: "kube-proxy", name: "system:kube-proxy"},
		{file: "netpol", name: "system:netpol"},
	}
	for _, n := range nodes {
		name, ip, ok := strings.Cut(n, "=")
		if !ok {
			return fmt.Errorf("-node %q: want NAME=IP", n)
		}
		id := identity{file: "kubelet-" + name, name: "system:node:" + name, groups: []string{"system:nodes"}}
		identities = append(identities, id)
		subject := pkix.Name{CommonName: id.name, Organization: id.groups}
		if err := ca.issue("kubelet-serving-"+name, subject, []string{name, ip}); err != nil {
			return err
		}
	}
	for _, u := range users {
		identities = append(identities, identity{file: u, name: u})
	}
	for _, id := range identities {
		if err := ca.issue(id.file, pkix.Name{CommonName: id.name, Organization: id.groups}, nil); err != nil {
			return err
		}
		if err := ca.kubeconfig(id.file, *server); err != nil {
			return err
		}
	}
	return nil
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

// authority signs certificates into the directory that it lies in itself.
type authority struct {
	dir  string
	cert *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
}

// openAuthority reads the authority FILE.crt and FILE.key of dir, made before
// if there is none.
func openAuthority(dir, file, name string) (*authority, error) {
	a := &authority{dir: dir}
	if !exists(a.path(file, ".crt")) {
		if err := a.create(file, name); err != nil {
			return nil, err
		}
	}
	var err error
	if a.pem, err = os.ReadFile(a.path(file, ".crt")); err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(a.path(file, ".key"))
	if err != nil {
		return nil, err
	}
	certBlock, _ := pem.Decode(a.pem)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s: no PEM in its .crt or .key", a.path(file, ""))
	}
	if a.cert, err = x509.ParseCertificate(certBlock.Bytes); err != nil {
		return nil, err
	}
	a.key, err = x509.ParseECPrivateKey(keyBlock.Bytes)
	return a, err
}

// create makes the authority, signed by itself.
func (a *authority) create(file, name string) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	template := newTemplate(pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	return a.write(file, template, template, key, key)
}

// issue writes FILE.crt and FILE.key: good as a client, and as a server at the
// names (addresses among them are told apart).
func (a *authority) issue(file string, subject pkix.Name, names []string) error {
	if exists(a.path(file, ".crt")) {
		return nil
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	template := newTemplate(subject)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	return a.write(file, template, a.cert, key, a.key)
}

func (a *authority) write(file string, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	if err := writeKey(a.path(file, ".key"), key); err != nil {
		return err
	}
	// The certificate comes last: it is what exists asks for.
	return writePEM(a.path(file, ".crt"), "CERTIFICATE", der, 0o644)
}

// kubeconfig writes FILE.kubeconfig with everything inlined, so that the one
// file can be copied anywhere.
func (a *authority) kubeconfig(file, server string) error {
	cert, err := os.ReadFile(a.path(file, ".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(a.path(file, ".key"))
	if err != nil {
		return err
	}
	config := api.NewConfig()
	config.Clusters["local"] = &api.Cluster{Server: server, CertificateAuthorityData: a.pem}
	config.AuthInfos[file] = &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts["local"] = &api.Context{Cluster: "local", AuthInfo: file}
	config.CurrentContext = "local"
	return clientcmd.WriteToFile(*config, a.path(file, ".kubeconfig"))
}

func (a *authority) path(file, ext string) string { return filepath.Join(a.dir, file+ext) }

// serviceAccountKey writes the pair that signs (sa.key) and checks (sa.pub)
// service account tokens.
func serviceAccountKey(dir string) error {
	private, public := filepath.Join(dir, "sa.key"), filepath.Join(dir, "sa.pub")
	if exists(public) {
		return nil
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writeKey(private, key); err != nil {
		return err
	}
	return writePEM(public, "PUBLIC KEY", der, 0o644)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newTemplate leaves the serial number nil: CreateCertificate then draws one.
func newTemplate(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:   subject,
		NotBefore: now.Add(-time.Hour), // machines with clocks that differ
		NotAfter:  now.Add(validity),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
