package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/certs"
)

// What certificates do while jobs run: they are replaced, and those that are not
// valid by somebody's clock are refused in words.

// issuer is the authority that a job's Secret says its worker is of.
func issuer(t *testing.T, name string) []byte {
	t.Helper()
	secret, err := client.CoreV1().Secrets(workers).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return secret.Data["ca.crt"]
}

// TestRotateJob replaces the certificates of a job, their authority too, under a
// follower whose connections are cut, again and again. A coordinator that had kept
// its own would be unknown to the agent after the second time.
func TestRotateJob(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	name := jobName(t)
	began := time.Now()
	s, out := follow(t,
		command(t.Context(), p.args(append([]string{"run", "-q", "--name", name, "--workdir=/tmp", "--"}, steady(25)...))...))
	out.await(t, 1_000_000)
	ca := issuer(t, name)
	dir := filepath.Join(t.TempDir(), "certs")
	if r := hodei(t, "certs", "generate", "--dir", dir); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for i, args := range [][]string{{}, {}, {"--dir", dir}, {"--dir", dir}} {
		by := "by a new authority in memory"
		if len(args) > 0 {
			by = "signed by " + dir + "/ca.crt"
		}
		if r := hodei(t, append([]string{"certs", "rotate", "--job", name}, args...)...); r.code != 0 ||
			!strings.HasSuffix(r.stdout, ", "+by+"\n") {
			t.Fatalf("rotation %d: %+v", i, r)
		}
		renewed := issuer(t, name)
		if same := bytes.Equal(ca, renewed); same != (i == 3) { // the last of the same authority
			t.Errorf("rotation %d: the authority is the same: %v", i, same)
		}
		ca = renewed
		before := out.count()
		p.cut()
		out.await(t, before+1_000_000)
	}
	t.Logf("4 rotations and cuts within %.1fs of 25", time.Since(began).Seconds())
	if r := hodei(t, "certs", "inspect", "--job", name); r.code != 0 {
		t.Errorf("%+v", r)
	}
	there, all := follow(t, elsewhere(t.TempDir(), command(t.Context(), "attach", "-q", name)))
	whole(t, s, out)
	whole(t, there, all)
}

// TestRotateAuthority replaces the authority of a directory while one of its jobs
// prints: its end comes with every byte. --finish waits for jobs that dial a server,
// and this one is reached through the tunnel.
func TestRotateAuthority(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	dir := filepath.Join(t.TempDir(), "certs")
	must := func(args ...string) {
		t.Helper()
		if r := hodei(t, args...); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	must("certs", "generate", "--dir", dir)
	name := jobName(t)
	s, out := follow(t,
		command(t.Context(),
			p.args(append([]string{"run", "-q", "--certs", dir, "--name", name, "--workdir=/tmp", "--"}, steady(8)...))...))
	out.await(t, 1_000_000)
	must("certs", "rotate", "--ca", "--dir", dir)
	p.cut()
	out.await(t, 3_000_000)
	must("run", "-q", "--certs", dir, "--name", jobName(t), "--", "true")

	must("certs", "rotate", "--finish", "--dir", dir)
	p.cut()
	must("certs", "inspect", dir)
	must("certs", "rotate", "--job", name, "--dir", dir)
	p.cut()
	whole(t, s, out)
	must("run", "-q", "--certs", dir, "--name", jobName(t), "--", "true")
}

// early is a certificate that begins in an hour, as one of now is seen by a clock
// that is behind.
func early(t *testing.T) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(time.Hour),
		NotAfter: time.Now().Add(2 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TestSkewedClock has an agent meet certificates that are not valid by its clock:
// that is said, with the clock, and at once.
func TestSkewedClock(t *testing.T) {
	t.Parallel()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	name := jobName(t)
	good, err := authority.IssueJob(certs.ID{Namespace: workers, Job: name})
	if err != nil {
		t.Fatal(err)
	}
	r := hodei(t, "run", "--dry-run=client", "-o", "json", "--name", name, "--", "true")
	made := &batchv1.Job{}
	if err := json.Unmarshal([]byte(r.stdout), made); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	if made, err = client.BatchV1().Jobs(workers).Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	controller := true
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: workers, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "batch/v1", Kind: "Job", Name: name, UID: made.UID, Controller: &controller}}},
		Data: map[string][]byte{"ca.crt": good.CA, "server.crt": good.ServerCert, "server.key": good.ServerKey,
			"start-by": []byte(time.Now().Add(time.Minute).UTC().Format(time.RFC3339))},
	}
	secret.Data["client.crt"], secret.Data["client.key"] = early(t)
	if _, err := client.CoreV1().Secrets(workers).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r = hodei(t, "attach", "-q", name)
	year := fmt.Sprint(time.Now().UTC().Year())
	if r.code != 125 || !strings.Contains(r.stderr, "client.crt: certificate is not valid yet: it begins at ") ||
		!strings.Contains(r.stderr, "and this machine's clock says "+year) || !strings.Contains(r.stderr, "\nhint: compare the clocks") {
		t.Errorf("after %.1fs: %+v", time.Since(began).Seconds(), r)
	}
	if r := hodei(t, "certs", "inspect", "--job", name); r.code != 1 || !strings.Contains(r.stderr, "certificate is not valid yet") {
		t.Errorf("%+v", r)
	}
}
