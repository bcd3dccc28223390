package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// ParseRequest reads one provider, as JSON or YAML: the user's guide's
// {"type": ..., "name": ..., "config": {...}}, or its keys alone, with the type
// among them, and then name is empty. Anything in it that is not understood, or not
// allowed, is a [job.FieldError].
func ParseRequest(data []byte) (name string, c Config, err error) {
	if name, err = c.Merge(data); err == nil {
		err = c.Validate()
	}
	if err != nil {
		return "", Config{}, err
	}
	return name, c, nil
}

// Merge reads the keys of one provider, in either form of [ParseRequest], over those
// of c. A key replaces the whole of what c has under it, and null takes it away. The
// result is not validated; after an error c is as it was.
func (c *Config) Merge(data []byte) (name string, err error) {
	if data, err = toJSON(data); err != nil {
		return "", err
	}
	var keys map[string]json.RawMessage
	_ = json.Unmarshal(data, &keys) // what it is instead, decode says
	merged := *c
	if keys["config"] == nil && keys["name"] == nil {
		if err := decode(data, "", &merged); err != nil {
			return "", err
		}
		*c = merged
		return "", nil
	}
	request := struct {
		Type   string          `json:"type"`
		Name   string          `json:"name"`
		Config json.RawMessage `json:"config"`
	}{Type: c.Type, Config: json.RawMessage("null")}
	if err := decode(data, "", &request); err != nil {
		return "", err
	}
	merged.Type = request.Type
	if err := decode(request.Config, "config", &merged); err != nil {
		return "", err
	}
	if merged.Type != request.Type {
		return "", job.InvalidField("config.type", merged.Type, "the type beside config is %q", request.Type)
	}
	*c = merged
	return request.Name, nil
}

// toJSON makes JSON of YAML, and refuses a key that is there twice. JSON it leaves as it
// is: not all of it is YAML.
func toJSON(data []byte) ([]byte, error) {
	if !utf8.Valid(data) { // whose bytes json would replace
		return nil, fmt.Errorf("it holds %w", job.CheckText(string(data)))
	}
	if !json.Valid(data) {
		return yaml.YAMLToJSONStrict(data)
	}
	in := json.NewDecoder(bytes.NewReader(data))
	in.UseNumber()
	if err := noKeyTwice(in, ""); err != nil {
		return nil, err
	}
	var compact bytes.Buffer // for errors that show a part of it
	err := json.Compact(&compact, data)
	return compact.Bytes(), err
}

// noKeyTwice reads one value, which begins at path.
func noKeyTwice(in *json.Decoder, path string) error {
	token, err := in.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		seen := map[json.Token]bool{}
		for in.More() {
			key, err := in.Token()
			if err != nil {
				return err
			}
			at := join(path, fmt.Sprint(key))
			if seen[key] {
				return job.WrongField(at, "already set above")
			}
			seen[key] = true
			if err := noKeyTwice(in, at); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for i := 0; in.More(); i++ {
			if err := noKeyTwice(in, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = in.Token() // the closing one
	return err
}

// decode reads JSON into what into points to. Its errors are of type [job.FieldError], which
// encoding/json's are not; their paths begin with path.
func decode(data []byte, path string, into any) error {
	return decodeValue(data, path, reflect.ValueOf(into).Elem())
}

func decodeValue(data []byte, path string, v reflect.Value) error {
	if bytes.Equal(data, []byte("null")) && v.Kind() != reflect.Struct {
		v.SetZero()
		return nil
	}
	_, special := v.Addr().Interface().(json.Unmarshaler)
	switch {
	case special:
		return decodeLeaf(data, path, v)
	case v.Kind() == reflect.Pointer:
		to := reflect.New(v.Type().Elem())
		if err := decodeValue(data, path, to.Elem()); err != nil {
			return err
		}
		v.Set(to)
		return nil
	case v.Kind() == reflect.Struct:
		return decodeStruct(data, path, v)
	case v.Kind() == reflect.Map:
		return decodeMap(data, path, v)
	case v.Kind() == reflect.Slice:
		return decodeList(data, path, v)
	}
	return decodeLeaf(data, path, v)
}

// decodeLeaf reads a text, a number or a truth value, or a type that reads itself.
func decodeLeaf(data []byte, path string, v reflect.Value) error {
	to := reflect.New(v.Type())
	if err := json.Unmarshal(data, to.Interface()); err != nil {
		wanted := want(v.Type())
		if v.Type() == reflect.TypeFor[resource.Quantity]() && !strings.HasPrefix(path, "cpu") { // all others are bytes
			wanted += job.GuessBytes(strings.Trim(string(data), `"`))
		}
		return refuse(path, data, wanted)
	}
	if words := enums[v.Type()]; words != nil && !slices.Contains(words, to.Elem().String()) {
		return refuse(path, data, oneOf(words))
	}
	if v.Kind() == reflect.String {
		if err := job.CheckText(to.Elem().String()); err != nil { // as the file could not be written
			return job.WrongField(path, "holds %v", err)
		}
	}
	v.Set(to.Elem())
	return nil
}

func decodeStruct(data []byte, path string, v reflect.Value) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	values, err := object(data, path)
	if err != nil {
		return err
	}
	fields := map[string]reflect.Value{}
	collect(v, fields)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		field, ok := fields[key]
		if !ok {
			return job.WrongField(join(path, key), "unknown key; allowed are %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		// Anew: what is there would be added to.
		to := reflect.New(field.Type()).Elem()
		if err := decodeValue(values[key], join(path, key), to); err != nil {
			return err
		}
		field.Set(to)
	}
	return nil
}

// collect finds the fields of a struct by their names in JSON, with those of the
// structs that are embedded in it.
func collect(v reflect.Value, fields map[string]reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "" && field.Anonymous:
			collect(v.Field(i), fields)
		case name != "" && name != "-":
			fields[name] = v.Field(i)
		}
	}
}

func decodeMap(data []byte, path string, v reflect.Value) error {
	values, err := object(data, path)
	if err != nil {
		return err
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		to := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(values[key], join(path, key), to); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), to)
	}
	return nil
}

func decodeList(data []byte, path string, v reflect.Value) error {
	var values []json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil {
		return refuse(path, data, want(v.Type()))
	}
	list := reflect.MakeSlice(v.Type(), len(values), len(values))
	for i, value := range values {
		if err := decodeValue(value, fmt.Sprintf("%s[%d]", path, i), list.Index(i)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func object(data []byte, path string) (map[string]json.RawMessage, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil {
		return nil, refuse(path, data, "keys and values")
	}
	return values, nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// maxShown is as much of a value as helps to find it in a file.
const maxShown = 200

// refuse is the error about a value that is not what is wanted.
func refuse(path string, value []byte, want string) error {
	if len(value) > maxShown {
		value = append(slices.Clone(value[:maxShown]), "..."...)
	}
	return &job.FieldError{Path: path, Value: string(value), Detail: "want " + want}
}

// want says what a type of Go is to who writes YAML.
func want(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return "a quantity such as 2 or 512Mi"
	case reflect.TypeFor[metav1.Duration]():
		return "a duration such as 90s, 10m or 1h30m"
	case reflect.TypeFor[User]():
		return "UID or UID:GID, in numbers, or " + job.UserImage
	case reflect.TypeFor[Switch]():
		return "a text"
	case reflect.TypeFor[intstr.IntOrString]():
		return "a whole number or a text"
	}
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "a list of texts"
		}
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return "keys and values"
}

// nodeOperators are the words of a node selector's requirement.
var nodeOperators = []string{"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}

// enums are the words that Kubernetes has for what is a text in Go. The API server
// would refuse others only when the first job is made. (Gt and Lt of a toleration
// need a feature gate.)
var enums = map[reflect.Type][]string{
	reflect.TypeFor[corev1.TolerationOperator]():            {"Exists", "Equal"},
	reflect.TypeFor[corev1.TaintEffect]():                   {"NoSchedule", "PreferNoSchedule", "NoExecute"},
	reflect.TypeFor[corev1.NodeSelectorOperator]():          nodeOperators,
	reflect.TypeFor[metav1.LabelSelectorOperator]():         {"In", "NotIn", "Exists", "DoesNotExist"},
	reflect.TypeFor[corev1.UnsatisfiableConstraintAction](): {"DoNotSchedule", "ScheduleAnyway"},
	reflect.TypeFor[corev1.NodeInclusionPolicy]():           {"Honor", "Ignore"},
	reflect.TypeFor[corev1.PodFSGroupChangePolicy]():        {"OnRootMismatch", "Always"},
	reflect.TypeFor[corev1.SupplementalGroupsPolicy]():      {"Merge", "Strict"},
	reflect.TypeFor[corev1.PodSELinuxChangePolicy]():        {"MountOption", "Recursive"},
	reflect.TypeFor[corev1.SeccompProfileType]():            {"RuntimeDefault", "Localhost", "Unconfined"},
	reflect.TypeFor[corev1.AppArmorProfileType]():           {"RuntimeDefault", "Localhost", "Unconfined"},
	reflect.TypeFor[corev1.PersistentVolumeAccessMode]():    {"ReadWriteOnce", "ReadWriteOncePod", "ReadOnlyMany", "ReadWriteMany"},
	reflect.TypeFor[corev1.PersistentVolumeMode]():          {"Filesystem", "Block"},
	reflect.TypeFor[corev1.HostPathType](): {"", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
		"CharDevice", "BlockDevice"},
}

// oneOf lists words as a sentence does.
func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
