package explain

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// deniedPattern matches the API server's sentence about a missing right. The
// user stands in it as Go writes a string.
var deniedPattern = regexp.MustCompile(`User "((?:[^"\\]|\\.)+)" cannot (\w+) resource "([^"]+)" in API group "([^"]*)"` +
	`(?: in the namespace "([^"]+)")?`)

// systemNamespace holds the authority's key; see deploy.
const systemNamespace = "hodei-system"

// anonymous is who sends no credentials at all.
const anonymous = "system:anonymous"

// forbidden says who lacks which verb on what, and what grants it, as far as the API server's
// message tells.
func forbidden(message string) *job.Failure {
	m := deniedPattern.FindStringSubmatch(message)
	if m == nil {
		return &job.Failure{Cause: job.Forbidden, Message: message}
	}
	user, _ := named(m[1])
	resource := m[3]
	if group := m[4]; group != "" {
		resource += "." + group
	}
	return MissingRight(user, m[2], resource, m[5])
}

// named returns the name of a user that stands in the API server's sentence as text, and kubectl's flag for it.
func named(text string) (user, subject string) {
	user = text
	if unquoted, err := strconv.Unquote(`"` + text + `"`); err == nil {
		user = OneLine(unquoted)
	}
	return user, subjectOf(user)
}

// subjectOf is kubectl's flag that names a user.
func subjectOf(user string) string {
	if account, ok := strings.CutPrefix(user, "system:serviceaccount:"); ok {
		return "--serviceaccount=" + shell.Quote(account)
	}
	return "--user=" + shell.Quote(user)
}

// MissingRight says who lacks which verb on what, and what grants it.
func MissingRight(user, verb, resource, namespace string) *job.Failure {
	where := "at cluster scope"
	if namespace != "" {
		where = fmt.Sprintf("in namespace %q", namespace)
	}
	f := &job.Failure{Cause: job.Forbidden, Message: fmt.Sprintf("forbidden: user %q may not %s %s %s", user, verb, resource, where)}
	subject := subjectOf(user)
	binding := bindingName(user)
	firstVerb, _, _ := strings.Cut(verb, " and ")
	role := bindingName(strings.Join([]string{user, verb, resource}, "-")) // one a right: the next one is granted beside it
	switch {
	case user == anonymous: // nobody would want to grant it that
		f.Hint = "this context has no credentials: log in, then: kubectl auth whoami"
	case namespace == "":
		f.Hint = fmt.Sprintf("ask an administrator; whether it is granted: kubectl auth can-i %s %s --all-namespaces", verb, resource)
	case namespace == systemNamespace: // hodei-user would hand out the authority's key there
		f.Hint = fmt.Sprintf("an administrator has to do this, with the same command; whether you may: kubectl auth can-i %s %s -n %s",
			firstVerb, resource, namespace)
	case grantsUser(verb, resource): // and did not in every version
		f.Hint = fmt.Sprintf("an administrator can grant it: kubectl create rolebinding %s --clusterrole=hodei-user %s -n %s; "+
			"if that is bound already: %s",
			binding, subject, namespace, InstallCommand(namespace))
	default:
		f.Hint = fmt.Sprintf("an administrator can grant it: kubectl create role %[1]s --verb=%[2]s --resource=%[3]s -n %[4]s && "+
			"kubectl create rolebinding %[1]s --role=%[1]s %[5]s -n %[4]s",
			role, strings.ReplaceAll(verb, " and ", ","), resource, namespace, subject)
	}
	return f
}

// userRights are what the ClusterRole hodei-user grants.
var userRights = map[string]string{
	"jobs.batch":       "create get list watch patch delete",
	"pods":             "list watch delete",
	"pods/portforward": "get create",
	"pods/log":         "get",
	"secrets":          "create delete get",
	"namespaces":       "get",
	"events":           "list watch",
}

// grantsUser says whether hodei-user grants a verb, or all of several.
func grantsUser(verbs, resource string) bool {
	for verb := range strings.SplitSeq(verbs, " and ") {
		if !slices.Contains(strings.Fields(userRights[resource]), verb) {
			return false
		}
	}
	return true
}

// bindingName makes a name of a user's.
func bindingName(user string) string {
	return strings.Trim("hodei-"+regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(user), "-"), "-")
}
