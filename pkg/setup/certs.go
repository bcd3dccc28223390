package setup

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/deploy"
)

// CertSecret is one of the Secrets in which 'hodei certs apply' stores certificates.
type CertSecret struct {
	Name, Namespace string
	// Files are the keys of its data. Each has the name of the file that it was made from.
	Files []string
}

// CertSecrets returns all Secrets with certificates, for jobs in the namespace workers. The authority's certificate is
// in both namespaces, because a Pod can't mount a Secret of another one.
func CertSecrets(workers string) []CertSecret {
	secrets := []CertSecret{
		{"hodei-ca-cert", deploy.SystemNamespace, []string{"ca.crt"}},
		{"hodei-ca-key", deploy.SystemNamespace, []string{"ca.key"}},
		{"hodei-server-cert", deploy.SystemNamespace, []string{"server.crt", "server.key"}},
	}
	if workers != deploy.SystemNamespace {
		secrets = append(secrets, CertSecret{"hodei-ca-cert", workers, []string{"ca.crt"}})
	}
	return append(secrets, CertSecret{"hodei-client-cert", workers, []string{"client.crt", "client.key"}})
}

// GetSecret reads one Secret. The error is the API server's.
func GetSecret(ctx context.Context, client clientset.Interface, namespace, name string) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, SecretTimeout)
	defer cancel()
	return client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

// SecretFiles returns the certificates and keys that a Secret holds.
func SecretFiles(secret *corev1.Secret) []certs.File {
	var files []certs.File
	for _, key := range []string{"ca.crt", "ca.key", "server.crt", "server.key", "client.crt", "client.key"} {
		if data, ok := secret.Data[key]; ok {
			files = append(files, certs.File{Name: key, Source: secret.Namespace + "/" + secret.Name + "/" + key, Data: data})
		}
	}
	return files
}

// SecretTimeout bounds one request for a Secret.
const SecretTimeout = 30 * time.Second
