package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/pkg/ui/uitest"
)

// inputBytes are sent to a command that drops them, for each figure; kubectlBytes by kubectl, which is slower.
const (
	inputBytes   = 1 << 30
	kubectlBytes = 128 << 20
	// inputBefore are not measured: pipes and windows are empty at first.
	inputBefore = 8 << 20
)

// takeInput is a shell script that reads n bytes and says so.
func takeInput(n int) string { return fmt.Sprintf("head -c %d >/dev/null; echo done", n) }

// input compares four ways to send stdin to a command in a Pod: hodei run -i, kubectl run -i, kubectl exec -i, and the
// physical limit, a bare port-forward.
func input() error {
	name := fmt.Sprintf("bench-input-%d", os.Getpid())
	podExec := podName("input")
	if err := pod(podExec, "sleep 3600"); err != nil {
		return err
	}
	defer removePod(podExec)
	var bare, ours, kubectlRun, kubectlExec []passage
	for i := range rounds {
		b, err := bareInput(podName("bare"))
		if err != nil {
			return err
		}
		job := fmt.Sprintf("%s-%d", name, i)
		h, err := sendInput(inputBytes, job, command("hodei", "run", "-i", "--quiet", "--provider", "bench", "--image", *shellImage,
			"--name", job, "--", "sh", "-c", takeInput(inputBytes)))
		if err != nil {
			return err
		}
		e, err := sendInput(kubectlBytes, "", command("kubectl", "exec", "-i", "--namespace=default", podExec, "--", "sh", "-c",
			takeInput(kubectlBytes)))
		if err != nil {
			return err
		}
		r, err := sendInput(kubectlBytes, "", command("kubectl", "run", "--rm", "-i", "--quiet", "--restart=Never", "--namespace=default",
			"--image="+*shellImage, "--image-pull-policy=IfNotPresent", podName("run"), "--command", "--", "sh", "-c",
			takeInput(kubectlBytes)))
		if err != nil {
			return err
		}
		bare, ours, kubectlExec, kubectlRun = append(bare, b), append(ours, h), append(kubectlExec, e), append(kubectlRun, r)
	}
	peak := 0
	for _, p := range ours {
		peak = max(peak, p.peak)
	}
	b, h, e, r := middle(bare), middle(ours), middle(kubectlExec), middle(kubectlRun)
	fmt.Printf("%d MiB of random bytes to a Pod's command (kubectl: %d MiB), median of %d   MB/s\n",
		inputBytes>>20, kubectlBytes>>20, rounds)
	for _, row := range []struct {
		name string
		passage
	}{{"bare port-forward, copied", b}, {"hodei run -i", h}, {"kubectl exec -i", e}, {"kubectl run -i", r}} {
		fmt.Printf("  %-67s %6.1f\n", row.name, row.rate()/1e6)
	}
	fmt.Printf("  ratio %.2f to the bare copy (aim: 0.8 or more), %.1f to kubectl exec, %.1f to kubectl run (aims: 3 or more)\n",
		h.rate()/b.rate(), h.rate()/e.rate(), h.rate()/r.rate())
	if peak > 0 {
		fmt.Printf("  agent's peak memory %.1f MiB (aim: 32 or less)\n", float64(peak)/1024)
	}
	return nil
}

// sendInput sends n bytes to a command that says when it has them. peak is that of the job's agent, if a job is named.
func sendInput(n int, job string, cmd *exec.Cmd) (passage, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return passage{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return passage{}, err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return passage{}, err
	}
	p, err := fill(n, stdin, stdout)
	if job != "" {
		p.peak = kibibytes(agentStatus(job), "VmHWM:")
	}
	err = errors.Join(err, stdin.Close(), cmd.Wait())
	if err != nil {
		return p, fmt.Errorf("%s: %w\n%s", cmd, err, said.String())
	}
	return p, nil
}

// fill writes n bytes, and waits for the answer. The first ones are not counted.
func fill(n int, to io.Writer, answer io.Reader) (passage, error) {
	block := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(block) // it never fails
	var began time.Time
	for sent := 0; sent < n; {
		if sent >= inputBefore && began.IsZero() {
			began = time.Now()
		}
		k, err := to.Write(block[:min(len(block), n-sent)])
		if sent += k; err != nil {
			return passage{}, fmt.Errorf("after %d bytes: %w", sent, err)
		}
	}
	line, err := bufio.NewReader(answer).ReadString('\n')
	if err == nil && line != "done\n" {
		err = fmt.Errorf("answer %q", line)
	}
	return passage{bytes: int64(n - inputBefore), took: time.Since(began)}, err
}

// bareInput sends bytes to a program in a Pod through kubectl port-forward.
func bareInput(name string) (passage, error) {
	script := fmt.Sprintf("echo '%s' >/tmp/serve; echo ready; nc -l -p 9000 -e sh /tmp/serve", takeInput(inputBytes))
	if err := pod(name, script); err != nil {
		return passage{}, err
	}
	defer removePod(name)
	var p passage
	err := forwarded(name, func(conn net.Conn) (err error) {
		p, err = fill(inputBytes, conn, conn)
		return err
	})
	return p, err
}

// keysTyped is how many keys are typed at each terminal.
const keysTyped = 300

// keys compares how long it takes until a key that is typed is seen: of a command at a terminal under hodei run -it, and
// under kubectl exec -it. The keys are typed in turn, after random pauses.
func keys() error {
	name := podName("keys")
	if err := pod(name, "sleep 3600"); err != nil {
		return err
	}
	defer removePod(name)
	const script = "echo ready; exec cat"
	hodei, err := atTerminal(command("hodei", "run", "-it", "--quiet", "--provider", "bench", "--image", *shellImage,
		"--", "sh", "-c", script))
	if err != nil {
		return err
	}
	defer hodei.close()
	kubectl, err := atTerminal(command("kubectl", "exec", "-it", "--namespace=default", name, "--", "sh", "-c", script))
	if err != nil {
		return err
	}
	defer kubectl.close()
	terminals := []*typist{hodei, kubectl}
	for _, t := range terminals {
		if err := t.ready(); err != nil {
			return err
		}
	}
	var delays [2][]time.Duration
	for range keysTyped {
		for i, t := range terminals {
			time.Sleep(rand.N(30 * time.Millisecond))
			d, err := t.key()
			if err != nil {
				return err
			}
			delays[i] = append(delays[i], d)
		}
	}
	fmt.Printf("a key typed and echoed, %d at each, ms                    median    p99\n", keysTyped)
	var of [2][2]float64
	for i, what := range []string{"hodei run -it", "kubectl exec -it"} {
		d := slices.Sorted(slices.Values(delays[i]))
		of[i] = [2]float64{median(d).Seconds() * 1000, d[len(d)*99/100].Seconds() * 1000}
		fmt.Printf("  %-52s %9.2f %6.2f\n", what, of[i][0], of[i][1])
	}
	fmt.Printf("  ratio %.2f, p99 %.2f (aim: 1.0 or less)\n", of[0][0]/of[1][0], of[0][1]/of[1][1])
	return nil
}

// typist is at a terminal in which a command runs.
type typist struct {
	cmd    *exec.Cmd
	master *os.File
	slave  *os.File
	came   chan byte
}

// atTerminal starts a command in a terminal of its own.
func atTerminal(cmd *exec.Cmd) (*typist, error) {
	master, slave, err := uitest.OpenPTY(80, 24)
	if err != nil {
		return nil, err
	}
	t := &typist{cmd: cmd, master: master, slave: slave, came: make(chan byte, 1<<16)}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.slave, t.slave, t.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := t.master.Read(buffer)
			for _, b := range buffer[:n] {
				t.came <- b
			}
			if err != nil {
				close(t.came)
				return
			}
		}
	}()
	return t, nil
}

// keyWait is more than any key takes.
const keyWait = time.Minute

// ready waits until the command reads what is typed.
func (t *typist) ready() error {
	var seen strings.Builder
	for late := time.After(keyWait); !strings.Contains(seen.String(), "ready\r\n"); {
		select {
		case b, ok := <-t.came:
			if !ok {
				return fmt.Errorf("%s ended: %s", t.cmd, seen.String())
			}
			seen.WriteByte(b)
		case <-late:
			return fmt.Errorf("%s: not ready: %s", t.cmd, seen.String())
		}
	}
	time.Sleep(time.Second) // nothing else comes
	return nil
}

// key types a key, and returns how long it takes until it is seen.
func (t *typist) key() (time.Duration, error) {
	began := time.Now()
	if _, err := t.master.WriteString("x"); err != nil {
		return 0, err
	}
	select {
	case b, ok := <-t.came:
		if !ok || b != 'x' {
			return 0, fmt.Errorf("%s: %q came for a key", t.cmd, b)
		}
		return time.Since(began), nil
	case <-time.After(keyWait):
		return 0, fmt.Errorf("%s: a key is not echoed", t.cmd)
	}
}

// close ends the command as a person does, by the end of its input.
func (t *typist) close() {
	_, err := t.master.WriteString("\n\x04")
	if err = errors.Join(err, t.cmd.Wait()); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", t.cmd, err)
	}
	t.slave.Close()
	t.master.Close()
}

// cancels measures hodei cancel, of a command that ends at once when it is asked to.
func cancels() error {
	var took []time.Duration
	for i := range *runs {
		name := fmt.Sprintf("bench-cancel-%d-%d", os.Getpid(), i)
		if err := startJob(name); err != nil {
			return err
		}
		d, err := timed("hodei", "cancel", "--provider", "bench", name)
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	fmt.Printf("%d runs                  median     min     max\n", *runs)
	show("hodei cancel", took)
	fmt.Println("                         (aim: 0.3 s or less)")
	return nil
}

// startJob has a job run that sleeps, and allows commands beside it.
func startJob(name string) error {
	if err := run("hodei", "run", "--quiet", "--detach", "--exec", "--provider", "bench", "--image", *shellImage, "--name", name,
		"--", "sleep", "3600"); err != nil {
		return err
	}
	return run("hodei", "wait", "--for", "running", "--provider", "bench", name)
}

// execs times a command that does nothing beside another, by hodei exec and by kubectl exec, in turn.
func execs() error {
	name := fmt.Sprintf("bench-exec-%d", os.Getpid())
	if err := startJob(name); err != nil {
		return err
	}
	defer func() {
		if err := run("hodei", "delete", "--provider", "bench", name); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}()
	pod, err := exec.CommandContext(context.Background(), "kubectl", "get", "pods", "--all-namespaces", "-l", "hodei.io/job="+name,
		"-o", "jsonpath={.items[0].metadata.namespace} {.items[0].metadata.name}").Output()
	if err != nil {
		return err
	}
	namespace, podName, _ := strings.Cut(string(pod), " ")
	var hodei, kubectl []time.Duration
	for i := -1; i < *runs; i++ { // the first of each warms the caches and is not counted
		h, err := timed("hodei", "exec", "--provider", "bench", name, "--", "true")
		if err != nil {
			return err
		}
		k, err := timed("kubectl", "exec", "--namespace="+namespace, podName, "-c", "job", "--", "true")
		if err != nil {
			return err
		}
		if i >= 0 {
			hodei, kubectl = append(hodei, h), append(kubectl, k)
		}
	}
	fmt.Printf("%d runs of each, in turn   median     min     max\n", *runs)
	show("hodei exec -- true", hodei)
	show("kubectl exec -- true", kubectl)
	fmt.Printf("ratio of the medians     %6.2f     (aim: 1.0 or less)\n", median(hodei).Seconds()/median(kubectl).Seconds())
	return nil
}
