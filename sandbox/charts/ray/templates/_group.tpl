{{/*
What the head and the worker groups share: start parameters and pod template.
  root    the chart's context        group   the values of the group
  name    the container's name       mounted the values that volumes and mounts come from
  init    the init container, text   envFrom what to print there, if the group has any
*/}}
{{- define "ray.group" -}}
{{- $group := .group -}}
{{- $image := .root.Values.image -}}
rayStartParams:
  {{- range $param, $value := $group.rayStartParams }}
  {{ $param }}: {{ quote $value }}
  {{- end }}
  storage: /tmp/ray-workflows
  {{- range $param, $value := $group.initArgs }}
  {{ $param }}: {{ quote $value }}
  {{- end }}
template:
  metadata:
    annotations: {{- toYaml $group.annotations | nindent 6 }}
    labels:
      {{- with $group.labels }}{{ toYaml . | nindent 6 }}{{ end }}
      {{- include "ray.labels" .root | nindent 6 }}
  spec:
    imagePullSecrets: {{- toYaml .root.Values.imagePullSecrets | nindent 6 }}
    {{- with .init }}
    initContainers: {{- . | nindent 6 }}
    {{- end }}
    containers:
      - name: {{ .name }}
        image: {{ $image.repository }}:{{ $image.tag }}
        imagePullPolicy: {{ $image.pullPolicy }}
        env:
          {{- with $group.containerEnv }}{{ toYaml . | nindent 10 }}{{ end }}
          - name: LICENSE_KEY_SIGNED
            value: {{ get .root.Values "SynthoLicense" }}
        {{- if $group.envFrom }}
        envFrom: {{- toYaml .envFrom | nindent 10 }}
        {{- end }}
        {{- if or .worker $group.ports }}
        ports: {{- toYaml $group.ports | nindent 10 }}
        {{- end }}
        {{- with $group.lifecycle }}
        lifecycle: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- range $field := list "resources" "securityContext" }}
        {{ $field }}: {{- toYaml (index $group $field) | nindent 10 }}
        {{- end }}
        volumeMounts:
        - {name: ray-workflows, mountPath: /tmp/ray-workflows}
        {{- toYaml .mounted.volumeMounts | nindent 8 }}
      {{- with $group.sidecarContainers }}{{ toYaml . | nindent 6 }}{{ end }}
    volumes:
    - {name: ray-workflows, persistentVolumeClaim: {claimName: ray-workflows-claim}}
    {{- toYaml .mounted.volumes | nindent 4 }}
    {{- range $field := list "affinity" "nodeSelector" "tolerations" }}
    {{ $field }}: {{- toYaml (index $group $field) | nindent 6 }}
    {{- end }}
{{- end -}}

{{/* One entry of workerGroupSpecs: `ray.group` with a name, the counts and the wait for the head's Service. */}}
{{- define "ray.workers" -}}
{{- with .group -}}
replicas: {{ .replicas }}
minReplicas: {{ .minReplicas | default (.miniReplicas | default 1) }}
maxReplicas: {{ .maxReplicas | default (.maxiReplicas | default 2147483647) }}
{{- end }}
groupName: {{ .groupName }}
{{ include "ray.group" (merge (dict "worker" true "name" "ray-worker" "init" (include "ray.wait" .group)) .) }}
{{- end -}}

{{- define "ray.wait" -}}
- name: init
  image: {{ .initContainerImage | default "busybox:1.28" }}
  securityContext: {{- toYaml .initContainerSecurityContext | nindent 4 }}
  command:
    - sh
    - -c
    - |
      domain="$(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace).svc.cluster.local"
      while ! nslookup "$RAY_IP.$domain"; do echo "no address of $RAY_IP yet"; sleep 2; done
{{- end -}}
