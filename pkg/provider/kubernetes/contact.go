package kubernetes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
)

// How long commands wait for an API server that stops answering well. docs/waits.md has these
// rules for users.
const (
	// FirstWait is how long a command that is to follow something waits for the first
	// answer: an API server that is restarted is back within a minute.
	FirstWait = 2 * time.Minute
	// lostWait is how long one that follows waits for the next answer: longer than an
	// upgrade of the cluster or a train through the mountains, and no CI job for ever.
	lostWait = time.Hour
	// refusedWait is how long the API server may refuse credentials or rights that were good
	// before hodei gives up. Meanwhile hodei asks the credential plugin and the token file
	// again; and an API server that has just started refuses what it has not read yet.
	refusedWait = 30 * time.Second
	// silentSay is how long the API server is silent before hodei says so: making a connection
	// anew takes a second.
	silentSay = 5 * time.Second
	// askEvery is the time between two questions whether it answers again, and askWait
	// how long an answer may take.
	askEvery, askWait = 2 * time.Second, 10 * time.Second
)

// ErrLost is under the Failure that a Contact ends with.
var ErrLost = errors.New("the cluster is out of reach")

// standing is what an answer means to a command that waits.
type standing int

const (
	heard      standing = iota // the API server works, be it that it said no
	turnedAway                 // it does not accept our credentials, or we lack a right
	silent                     // it does not answer, or is in trouble
)

func standingOf(err error) standing {
	var (
		answer  apierrors.APIStatus
		failure *job.Failure
		network net.Error
		request *url.Error
		peer    *tls.CertificateVerificationError
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &peer):
		return heard
	case explain.LackingCredentials(err) != nil: // the network may be what is missing
		return silent
	case apierrors.IsUnauthorized(err), apierrors.IsForbidden(err):
		return turnedAway
	case apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err), apierrors.IsTimeout(err),
		apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err):
		return silent
	case errors.As(err, &answer):
		if answer.Status().Code >= 500 {
			return silent
		}
		return heard
	case errors.As(err, &failure) && failure.Cause == job.Forbidden:
		return turnedAway
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network), errors.As(err, &request):
		return silent
	}
	return heard
}

// Unanswered reports whether err is no answer of the API server, or the answer of one in
// trouble: ask it again. Credentials that could not be had are for the user to mend: some
// plugins open a browser each time they are asked.
func Unanswered(err error) bool {
	return standingOf(err) == silent && explain.LackingCredentials(err) == nil
}

// Contact judges the answers of an API server for a command that follows something there: which
// are final, which to wait out, and what to say meanwhile. The zero Contact has had good
// answers up to now. It must be used by one goroutine.
type Contact struct {
	// Wait is how long to wait for a good answer; 0 is lostWait.
	Wait time.Duration

	bad     time.Time // when the answers ceased to be good; zero: they are
	refused time.Time // since when they are refusals
	told    standing  // heard: nothing was told
}

// Next takes an answer: nil or an error of a request. It returns what is to be told now,
// "" is nothing, and the failure with which the waiting is over, nil while it is not.
func (c *Contact) Next(now time.Time, err error) (string, *job.Failure) {
	state := standingOf(err)
	if state == heard {
		told := c.told
		*c = Contact{Wait: c.Wait}
		if told != heard {
			return "the cluster answers again", nil
		}
		return "", nil
	}
	first := c.bad.IsZero()
	if first {
		c.bad = now
	}
	switch {
	case state == silent:
		c.refused = time.Time{}
	case c.refused.IsZero():
		c.refused = now
	}
	wait := c.Wait
	if wait == 0 {
		wait = lostWait
	}
	why := lostBy(err)
	switch {
	case state == turnedAway && now.Sub(c.refused) >= refusedWait:
		return "", why
	case now.Sub(c.bad) >= wait:
		why.Message += fmt.Sprintf(" (waited %s)", job.Duration(wait))
		return "", why
	case c.told == state || state == turnedAway && first || state == silent && now.Sub(c.bad) < silentSay:
		return "", nil
	}
	c.told = state
	if state == turnedAway {
		return fmt.Sprintf("%s; trying on for %s", why.Message, (refusedWait - now.Sub(c.refused)).Round(time.Second)), nil
	}
	return fmt.Sprintf("%s; waiting for up to %s", why.Message, job.Duration(wait)), nil
}

// lostBy is the failure of what could be asked before, and is no longer answered.
func lostBy(err error) *job.Failure {
	f := *explain.Error(err)
	if answer := apierrors.APIStatus(nil); apierrors.IsUnauthorized(err) && errors.As(err, &answer) {
		f.Message = "credentials are no longer accepted: " + explain.OneLine(answer.Status().Message)
	}
	if request := (*url.Error)(nil); errors.As(err, &request) && explain.LackingCredentials(err) == nil { // whatever was asked
		f.Message = "Kubernetes cluster not available: " + explain.OneLine(request.Err.Error())
	}
	f.Err = fmt.Errorf("%w: %w", ErrLost, err)
	return &f
}

// right is one that a Run needs for as long as it follows.
type right struct{ verb, group, resource, subresource string }

func (r right) String() string {
	text := r.resource
	if r.group != "" {
		text += "." + r.group
	}
	if r.subresource != "" {
		text += "/" + r.subresource
	}
	return text
}

// answer is the update of an answer of the API server, under way, to who doubts it.
type answer struct{ err error }

// doubt gets an error of a request that needs the right r. If it may mean that the API server
// is out of reach, or refuses us, doubt asks for that right every askEvery, and tells Watch each
// answer, until one is good:
// client-go's informers would be silent for up to a minute, or for ever.
func (r *Run) doubt(ctx context.Context, of right, err error) {
	if standingOf(err) == heard || ctx.Err() != nil || !r.doubting.CompareAndSwap(false, true) {
		return
	}
	r.work.Go(ctx, func(ctx context.Context) {
		defer r.doubting.Store(false)
		for {
			r.send(ctx, answer{err})
			select {
			case <-time.After(askEvery):
			case <-ctx.Done():
				return
			}
			if err = r.provider.mayStill(ctx, of); standingOf(err) == heard {
				r.send(ctx, answer{nil})
				return
			}
		}
	})
}

// mayStill asks whether we have a right; nil: we do. A Failure names one that we lack.
func (p *Provider) mayStill(ctx context.Context, of right) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	namespace := p.settings.Namespace
	review, err := p.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: of.verb, Group: of.group, Resource: of.resource, Subresource: of.subresource,
		}}}, metav1.CreateOptions{})
	if err != nil || review.Status.Allowed {
		return err
	}
	user, err := p.dialer.WhoAmI(ctx)
	if err != nil {
		return err
	}
	return explain.MissingRight(user, of.verb, of.String(), namespace)
}

// contact acts on an answer under way.
func (w *watcher) contact(err error) *job.Failure {
	say, lost := w.lines.Next(time.Now(), err)
	if say != "" {
		w.tell.Report(job.Event{Phase: job.Running, Time: time.Now(), Waiting: true, Detail: say})
	}
	return lost
}

// ComeBack returns the hint for somebody who lost the cluster while a job runs; command is what to type then.
func ComeBack(err error, command string) string {
	if f, ok := errors.AsType[*job.Failure](err); ok && f.Cause == job.Forbidden {
		return "log in anew, or get the right back, then: " + command
	}
	return command
}

// Ask asks a cluster. If patient, it asks again while the cluster does not answer, for [FirstWait],
// and tells note so once. A refusal is an answer.
func Ask[T any](ctx context.Context, patient bool, note func(string), ask func(context.Context) (T, error)) (T, error) {
	began, said := time.Now(), false
	for {
		found, err := ask(ctx)
		if !patient || ctx.Err() != nil || !Unanswered(err) || time.Since(began) >= FirstWait {
			return found, err
		}
		if !said {
			note(fmt.Sprintf("%s; waiting for up to %s", Explain(err).Message, FirstWait))
			said = true
		}
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
		}
	}
}
