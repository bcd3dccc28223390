package kubernetes

import (
	"testing"

	"github.com/hodei-jobs/hodei/certs"
)

func testCerts(t testing.TB, namespace, name string) *certs.JobCerts {
	t.Helper()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.IssueJob(certs.ID{Namespace: namespace, Job: name})
	if err != nil {
		t.Fatal(err)
	}
	return id
}
