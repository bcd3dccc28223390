package certs

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ExpiryWarning is how long before its end a CA is warned about: what a job's
// certificates are good for, so that from then on those of new jobs are cut
// short by it. Less would leave no time to replace a CA while jobs run.
const ExpiryWarning = jobValidity

// maxFileBytes is what a Secret can hold in all. Certificates take a few KiB;
// what is longer is no certificate, and is not read into memory.
const maxFileBytes = 1 << 20

// File is a PEM file, or a key of a Secret.
type File struct {
	Name   string // ca.crt, server.key; what belongs together is told by it
	Source string // a path, or NAMESPACE/SECRET/KEY; what a person is told
	Data   []byte
	Mode   fs.FileMode // of a file; 0: it is none
	Err    error       // why Data could not be read; nil: it was
}

// Fact is what is known of one certificate.
type Fact struct {
	// Source is that of its [File]; further certificates of ca.crt have their
	// number behind it: ca.crt#2.
	Source string `json:"source"`
	// CA tells that it signs others; else it is a leaf.
	CA      bool   `json:"ca"`
	Subject string `json:"subject,omitempty"` // common name
	Issuer  string `json:"issuer,omitempty"`  // common name
	Serial  string `json:"serial,omitempty"`  // hexadecimal
	// Names are the SANs: DNS names, IP addresses, URIs.
	Names []string `json:"names,omitempty"`
	// The first and last moment at which it is valid, in UTC.
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	// DaysLeft are whole days to NotAfter; below 0 they are past.
	DaysLeft int `json:"daysLeft"`
	// Key is KeyMatches, KeyDiffers or, where there is no private key to compare,
	// empty.
	Key string `json:"key,omitempty"`
	// KeyMode is the mode of the private key's file, such as 0640, where others than
	// its owner have rights to it.
	KeyMode string `json:"keyMode,omitempty"`
	// SignedBy is the source of the CA that signed it; empty where there is none to
	// ask, or none did.
	SignedBy string `json:"signedBy,omitempty"`
	// Problem keeps it from being used, Warning soon will; empty: nothing does.
	Problem string `json:"problem,omitempty"`
	Warning string `json:"warning,omitempty"`
}

// Values of [Fact.Key].
const (
	KeyMatches = "match"
	KeyDiffers = "mismatch"
)

// InspectDir tells of the certificates of a directory, as [Inspect] does. The
// error is a [FileError]: the directory can't be read, or there are none in it.
func InspectDir(dir string, now time.Time) ([]Fact, error) {
	files, err := ReadDir(dir)
	if err != nil {
		return nil, err
	}
	return Inspect(files, now), nil
}

// ReadDir reads the certificates and keys of a directory: its *.crt and *.key.
// A file that can't be read has its Err set; the error is a [FileError] about
// the directory, among them that there is no such file in it.
func ReadDir(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fileError(dir, err)
	}
	var files []File
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".crt" || ext == ".key" {
			files = append(files, readFile(filepath.Join(dir, e.Name())))
		}
	}
	if len(files) == 0 {
		return nil, &FileError{Path: dir, Err: errors.New("no certificate in this directory")}
	}
	return files, nil
}

// ReadFile reads a certificate and, if they are there, what belongs to it: the
// private key and the ca.crt beside it. In place of a key it is the certificate
// beside that; the first File is the one that it is about.
func ReadFile(path string) []File {
	if cert := certOf(path); cert != path {
		if _, err := os.Stat(cert); err == nil {
			path = cert
		}
	}
	files := []File{readFile(path)}
	dir, name := filepath.Split(path)
	for _, other := range []string{keyOf(name), caCertFile} {
		if _, err := os.Stat(dir + other); err == nil && other != name {
			files = append(files, readFile(dir+other))
		}
	}
	return files
}

// keyOf is the file of a certificate's private key.
func keyOf(name string) string { return strings.TrimSuffix(name, filepath.Ext(name)) + ".key" }

// certOf is the file of a private key's certificate; of another file it is that.
func certOf(name string) string {
	if base, ok := strings.CutSuffix(name, ".key"); ok {
		return base + ".crt"
	}
	return name
}

func readFile(path string) File {
	f := File{Name: filepath.Base(path), Source: path}
	if info, err := os.Stat(path); err == nil {
		f.Mode = info.Mode()
	}
	var err error
	f.Data, err = readSmall(path)
	f.Err = reason(err)
	return f
}

// readSmall does not wait for a pipe, and does not fill the memory.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: not a regular file", ErrMalformed)
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("%w: it is longer than 1 MiB", ErrMalformed)
	}
	return data, err
}

// Inspect tells of all certificates among files that belong together: of those
// in X.crt the key is in X.key, and what signed them is in ca.crt. A file whose
// name does not end in .key is taken for certificates. Nothing is an error:
// what is wrong is the [Fact.Problem] of a certificate, or of a file that holds
// none.
func Inspect(files []File, now time.Time) []Fact {
	in := inspection{files: map[string]File{}, now: now}
	for _, f := range files {
		in.files[f.Name] = f
	}
	if ca, ok := in.files[caCertFile]; ok && ca.Err == nil {
		in.cas, _ = parseCertificates(ca.Data) // the error is the file's own fact
	}
	var facts []Fact
	for _, f := range files {
		if filepath.Ext(f.Name) == ".key" {
			continue
		}
		facts = append(facts, in.file(f)...)
	}
	for _, f := range files { // a key that no certificate's fact speaks of
		if _, ok := in.files[certOf(f.Name)]; !ok && filepath.Ext(f.Name) == ".key" {
			fact := Fact{Source: f.Source, Problem: "there is no certificate for this key"}
			if f.Err != nil {
				fact.Problem = f.Err.Error()
			}
			facts = append(facts, fact)
		}
	}
	slices.SortStableFunc(facts, func(a, b Fact) int { // a CA before what it signs
		return cmp.Compare(rank(a), rank(b))
	})
	return facts
}

func rank(f Fact) int {
	if f.CA {
		return 0
	}
	return 1
}

type inspection struct {
	files map[string]File
	cas   []*x509.Certificate // of ca.crt
	now   time.Time
}

// file tells of the certificates of one file: of a CA's all, of others the first,
// behind which its chain stands.
func (in *inspection) file(f File) []Fact {
	if f.Err != nil {
		return []Fact{{Source: f.Source, Problem: f.Err.Error()}}
	}
	chain, err := parseCertificates(f.Data)
	if err != nil {
		return []Fact{{Source: f.Source, Problem: err.Error()}}
	}
	fact := in.fact(f.Source, chain[0])
	in.checkKey(&fact, f, chain[0])
	if f.Name != caCertFile {
		in.checkChain(&fact, f, chain)
		return []Fact{fact}
	}
	if err := checkCA(chain[0], in.now); err != nil {
		fact.Problem = err.Error()
	}
	facts := []Fact{fact}
	for i, ca := range chain[1:] {
		fact := in.fact(fmt.Sprintf("%s#%d", f.Source, i+2), ca)
		if fact.Problem != "" { // it is only handed on as trusted
			fact.Problem, fact.Warning = "", fact.Problem
		}
		facts = append(facts, fact)
	}
	return facts
}

// fact is what a certificate says of itself.
func (in *inspection) fact(source string, cert *x509.Certificate) Fact {
	fact := Fact{
		Source: source, CA: cert.IsCA, Subject: cert.Subject.CommonName, Issuer: cert.Issuer.CommonName,
		Serial: cert.SerialNumber.Text(16), NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
		Names: slices.Clone(cert.DNSNames),
	}
	for _, ip := range cert.IPAddresses {
		fact.Names = append(fact.Names, ip.String())
	}
	for _, uri := range cert.URIs {
		fact.Names = append(fact.Names, uri.String())
	}
	left := cert.NotAfter.Sub(in.now)
	fact.DaysLeft = int(left / (24 * time.Hour))
	if left < 0 {
		fact.DaysLeft--
	}
	if cert.IsCA && cert.CheckSignatureFrom(cert) == nil {
		fact.SignedBy = source
	}
	if err := checkTime(cert, in.now); err != nil {
		fact.Problem = err.Error()
	} else if soon := EndsSoon(cert, in.now); soon != "" {
		fact.Warning = "it ends at " + soon
	}
	return fact
}

func (in *inspection) checkKey(fact *Fact, f File, cert *x509.Certificate) {
	k, ok := in.files[keyOf(f.Name)]
	if !ok || k.Name == f.Name {
		return
	}
	if k.Err != nil {
		fact.Problem = cmp.Or(fact.Problem, k.Source+": "+k.Err.Error())
		return
	}
	if text := exposed(k.Source, k.Mode); text != "" {
		fact.KeyMode = fmt.Sprintf("%#o", k.Mode.Perm())
		if fact.Warning != "" {
			text = fact.Warning + "; " + text
		}
		fact.Warning = text
	}
	key, err := parseKey(k.Data)
	switch {
	case err != nil:
		fact.Problem = cmp.Or(fact.Problem, k.Source+": "+err.Error())
	case !matches(key, cert):
		fact.Key = KeyDiffers
		fact.Problem = fmt.Sprintf("%s is another certificate's key", k.Source)
	default:
		fact.Key = KeyMatches
	}
}

// checkChain looks for the CA that signed a leaf, and for the use that its file
// is for.
func (in *inspection) checkChain(fact *Fact, f File, chain []*x509.Certificate) {
	for i, ca := range in.cas {
		if !verifiedBy(chain, ca) {
			continue
		}
		fact.SignedBy = in.files[caCertFile].Source
		if i > 0 {
			fact.SignedBy += fmt.Sprintf("#%d", i+1)
		}
		break
	}
	if len(in.cas) > 0 && fact.SignedBy == "" {
		fact.Problem = cmp.Or(fact.Problem, fmt.Sprintf("it is not signed by %s", in.files[caCertFile].Source))
	}
	for name, usage := range map[string]x509.ExtKeyUsage{
		serverCertFile: x509.ExtKeyUsageServerAuth, clientCertFile: x509.ExtKeyUsageClientAuth,
	} {
		if f.Name == name && !slices.Contains(chain[0].ExtKeyUsage, usage) && !slices.Contains(chain[0].ExtKeyUsage, x509.ExtKeyUsageAny) {
			fact.Problem = cmp.Or(fact.Problem, fmt.Sprintf("it is not for %s authentication", strings.TrimSuffix(name, ".crt")))
		}
	}
}

// verifiedBy tells whether a leaf, with its chain behind it, was signed by ca.
// Times are looked at elsewhere.
func verifiedBy(chain []*x509.Certificate, ca *x509.Certificate) bool {
	for i, cert := range chain {
		if cert.CheckSignatureFrom(ca) == nil {
			return true
		}
		if i+1 == len(chain) || cert.CheckSignatureFrom(chain[i+1]) != nil {
			return false
		}
	}
	return false
}

// exposed says that others than its owner have rights to a key's file.
func exposed(source string, mode fs.FileMode) string {
	if perm := mode.Perm(); perm&0o077 != 0 {
		return fmt.Sprintf("%s is not its owner's alone: mode %#o", source, perm)
	}
	return ""
}

// EndsSoon says when a certificate ends, if it is within [ExpiryWarning] of now and
// the last third of its time, for a job's are short by design; else it returns "".
func EndsSoon(cert *x509.Certificate, now time.Time) string {
	if cert.NotAfter.Sub(now) < min(ExpiryWarning, cert.NotAfter.Sub(cert.NotBefore)/3) {
		return ends(cert, now)
	}
	return ""
}

func ends(cert *x509.Certificate, now time.Time) string {
	return fmt.Sprintf("%s, in %s", utc(cert.NotAfter), days(cert.NotAfter.Sub(now)))
}

func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		if d < time.Minute {
			return d.Round(time.Second).String()
		}
		return d.Round(time.Minute).String()
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
