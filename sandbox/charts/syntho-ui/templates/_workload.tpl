{{/*
A pod's spec. `containers`, `init` and `volumes` are text; `app` is false for redis alone, which gets no pull secrets.
*/}}
{{- define "ui.pod" -}}
{{- with .security }}
securityContext: {{- . | nindent 2 }}
{{- end }}
{{- with .init }}
initContainers: {{- . | nindent 2 }}
{{- end }}
containers: {{- .containers | nindent 2 }}
volumes: {{- .volumes | nindent 2 }}
{{- if .app }}
restartPolicy: Always
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $field := list "affinity" "nodeSelector" "tolerations" }}
{{- with index $.root.Values $field }}
{{ $field }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A Deployment of one container, selected by the single label `key: name`. */}}
{{- define "ui.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
  labels:
    {{- with .labels }}{{ nindent 4 . }}{{ end }}
    {{ .key }}: {{ .name }}
spec:
  replicas: {{ .replicas }}
  {{- with .strategy }}
  strategy: {type: {{ . }}}
  {{- end }}
  selector:
    matchLabels:
      {{ .key }}: {{ .name }}
  template:
    metadata:
      labels:
        {{ .key }}: {{ .name }}
      {{- with .podMetadata }}{{ nindent 6 . }}{{ end }}
    spec: {{- include "ui.pod" . | nindent 6 }}
status: {}
{{- end -}}

{{/* A container of Syntho's own images. `more` is text: ports, probes, command. The pull policy cannot be changed. */}}
{{- define "ui.container" -}}
- name: {{ .name }}
  image: "{{ .image.repository }}:{{ .image.tag }}"
  imagePullPolicy: Always
  env: {{- .env | nindent 4 }}
  volumeMounts: {{- toYaml .mounts | nindent 4 }}
  resources:
    limits: {cpu: {{ index .limits 0 }}, memory: {{ index .limits 1 }}, ephemeral-storage: {{ .disk }}}
    requests: {cpu: {{ index .requests 0 }}, memory: {{ index .requests 1 }}, ephemeral-storage: {{ .disk }}}
  {{- .more | nindent 2 }}
{{- end -}}

{{/* Class or volume selector of a claim; `other` is what an empty class becomes. */}}
{{- define "ui.storage" -}}
{{- if and .from.pvLabelKey (not .from.storageClassName) -}}
selector:
  matchLabels:
    pv-label-key: {{ .from.pvLabelKey }}
{{- else -}}
storageClassName: {{ .from.storageClassName | default .other }}
{{- end -}}
{{- end -}}
