// Command netpol enforces NetworkPolicy on the node whose network namespace it
// runs in. sigs.k8s.io/kube-network-policies decides, on the first packet of
// every connection. The packets come to it by iptables' NFQUEUE target, since
// that project's own rules need nftables' queue expression, which not every
// kernel has.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/api"
	"sigs.k8s.io/kube-network-policies/pkg/network"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
	"sigs.k8s.io/kube-network-policies/pkg/podinfo"
)

const queue = 100

// rules go to the mangle table, where a Service's address is already replaced
// by the Pod's and the client's is not yet.
var rules = []string{
	"-F", "-X", // what an earlier netpol of this node left
	"-N NETPOL",
	"-A NETPOL -o lo -j RETURN",
	"-A NETPOL -m conntrack ! --ctstate NEW -j RETURN",
	fmt.Sprintf("-A NETPOL -j NFQUEUE --queue-num %d --queue-bypass", queue), // no netpol: no policy
	"-A POSTROUTING -m owner --uid-owner 0 -j ACCEPT",                        // the kubelet's probes
	"-A POSTROUTING -j NETPOL",
	"-A INPUT ! -i lo -j NETPOL",
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	kubeconfig := flag.String("kubeconfig", "", "`file` with the cluster's address and credentials")
	node := flag.String("node", "", "`name` of this node")
	flag.Parse()
	if err := run(ctx, *kubeconfig, *node); err != nil {
		fmt.Fprintln(os.Stderr, "netpol:", err)
		os.Exit(1)
	}
}

// run enforces until ctx is done.
func run(ctx context.Context, kubeconfig, node string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	namespaces, pods := factory.Core().V1().Namespaces(), factory.Core().V1().Pods()
	policies := factory.Networking().V1().NetworkPolicies()
	byIP, err := podinfo.NewInformerResolver(pods.Informer())
	if err != nil {
		return err
	}
	engine := networkpolicy.NewPolicyEngine(
		podinfo.NewInformerProvider(pods, namespaces, nil, []podinfo.IPResolver{byIP}),
		[]api.PolicyEvaluator{networkpolicy.NewStandardNetworkPolicy(node, namespaces, pods, policies)})
	engine.SetDataplaneSyncCallbacks(func() {}) // the rules are the same whatever the policies say
	factory.Start(ctx.Done())
	for !engine.Ready() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}

	packets, err := nfqueue.Open(&nfqueue.Config{
		NfQueue: queue, Flags: nfqueue.NfQaCfgFlagGSO, Copymode: nfqueue.NfQnlCopyPacket,
		MaxPacketLen: 128, // the headers are enough
		MaxQueueLen:  1024, WriteTimeout: 100 * time.Millisecond,
	})
	if err != nil {
		return fmt.Errorf("open packet queue %d: %w", queue, err)
	}
	defer packets.Close()
	decide := func(a nfqueue.Attribute) int {
		verdict := nfqueue.NfDrop
		if packet, err := network.ParsePacket(*a.Payload); err != nil {
			verdict = nfqueue.NfAccept // policies speak of TCP, UDP and SCTP only
		} else if allowed, err := engine.EvaluatePacket(ctx, &packet); err != nil {
			klog.ErrorS(err, "evaluate", "packet", packet.String())
		} else if allowed {
			verdict = nfqueue.NfAccept
		}
		if err := packets.SetVerdict(*a.PacketID, verdict); err != nil {
			klog.ErrorS(err, "set verdict")
		}
		return 0
	}
	goOn := func(error) int { return 0 } // a lost packet is sent again by its sender
	if err := packets.RegisterWithErrorFunc(ctx, decide, goOn); err != nil {
		return fmt.Errorf("read packet queue %d: %w", queue, err)
	}
	for _, rule := range rules {
		args := append([]string{"-w", "-t", "mangle"}, strings.Fields(rule)...)
		if out, err := exec.CommandContext(ctx, "iptables", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables %s: %w: %s", rule, err, out)
		}
	}
	klog.Info("enforcing") // cluster up waits for this line
	<-ctx.Done()
	return nil
}
